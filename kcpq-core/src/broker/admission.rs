//! Who is let in, and what new rules mean for those who are there.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::config::Audience;
use super::context::Context;
use super::dispatch::notify;
use super::event::{Event, SessionId};
use super::foreign;
use super::groups::parts;
use super::guard::Guard;
use super::pass::Pass;
use super::peer::Peer;
use super::presence::UNSUBSCRIBED;
use super::session::{Me, Member, Session};
use super::sessions::Sessions;
use super::table::Slot;
use crate::access::Credential;
use crate::hello::{CloseReason, Notice};
use crate::subject::Pattern;

impl<P: Peer> Context<P> {
    /// Finds out whose session it is that has shown this, and lets it in.
    ///
    /// # Errors
    /// Why not. Counted.
    pub(super) fn identify(
        &mut self,
        id: SessionId,
        member: &mut Member,
        credential: Credential,
    ) -> Result<(), CloseReason> {
        let Some(guard) = &mut self.guard else {
            member.pass = Some(Box::new(Pass::of_nobody(credential)));
            return Ok(());
        };
        if let Some(before) = member.pass.take() {
            guard.leave(&before);
        }
        match guard.admit(credential) {
            Ok(pass) => {
                self.let_in(id, member, pass);
                Ok(())
            }
            Err(reason) => {
                match reason {
                    CloseReason::Limit => self.stats.sessions_refused += 1,
                    _ => self.stats.sessions_denied += 1,
                }
                Err(reason)
            }
        }
    }

    /// What a session shows by its first frame, in which it says HELLO or does not, if it has proved nothing by a handshake.
    pub(super) fn credential(&self, member: &Member, native: bool) -> Credential {
        let knows_local = || self.guard.as_ref().is_some_and(|guard| guard.knows(&Credential::Local));
        match (native, self.headroom) {
            _ if member.stream.is_some() => Credential::Anonymous,
            (true, _) if member.local && knows_local() => Credential::Local,
            (true, _) => Credential::Anonymous,
            (false, 0) => Credential::Original,
            (false, _) => Credential::OriginalWithKey,
        }
    }

    fn let_in(&mut self, id: SessionId, member: &mut Member, pass: Box<Pass>) {
        let limits = self.guard.as_ref().map(|guard| guard.limits(&pass)).unwrap_or_default();
        member.outlet.set_max_queued(limits.queued, self.config.high_water);
        if let Some(identity) = pass.name().cloned() {
            self.tell(Event::Identified { id, identity });
        }
        member.pass = Some(pass);
    }

    /// How many subscriptions a session may have.
    pub(super) fn max_subscriptions(&self, pass: Option<&Pass>) -> usize {
        let own = self.guard.as_ref().zip(pass).and_then(|(guard, pass)| guard.limits(pass).subscriptions);
        self.config.max_subscriptions.min(own.unwrap_or(usize::MAX))
    }

    /// True if a session may subscribe to `pattern`, and notes what this means for its messages.
    pub(super) fn may_subscribe(&mut self, pass: Option<&mut Box<Pass>>, pattern: Pattern<'_>) -> bool {
        let audience = self.config.presence.audience;
        match (&mut self.guard, pass) {
            (_, _) if pattern.is_reserved() && audience == Audience::Nobody => false,
            (None, _) => !pattern.is_reserved() || audience == Audience::Everybody,
            (Some(_), None) => false,
            (Some(guard), Some(pass)) => {
                let named = !pattern.is_reserved() || audience == Audience::Everybody || guard.names_subjects(pass);
                named && guard.may_subscribe(pass, pattern)
            }
        }
    }

    /// A session is no more.
    pub(super) fn has_left(&mut self, member: &Member) {
        if let (Some(guard), Some(pass)) = (&mut self.guard, &member.pass) {
            guard.leave(pass);
        }
    }
}

impl<P: Peer> Sessions<P> {
    /// Other rules hold from now on, or none: for those who are there as well.
    pub(super) fn set_guard(&mut self, guard: Option<Box<Guard>>) {
        self.cx.guard = guard;
        for index in self.table.indices() {
            let Some(mut slot) = self.table.take(index) else { continue };
            if let Some(pass) = &mut slot.session.member().pass {
                pass.detach();
            }
            if slot.session.member().is_open()
                && let Err(reason) = self.review(&mut slot)
            {
                self.begin_closing(&mut slot, reason);
            }
            self.put_back(slot, true);
        }
        self.see_to_others();
    }

    /// A handshake has shown who has opened a session. False, and the session is about to end, if it is not let in.
    pub(super) fn identify(&mut self, id: SessionId, credential: Credential) -> bool {
        let Some(mut slot) = self.table.take(id.slot) else { return false };
        let known = slot.id == id;
        if known && let Err(reason) = self.cx.identify(id, slot.session.member(), credential) {
            self.begin_closing(&mut slot, reason);
        }
        let let_in = known && slot.session.member().is_open();
        self.put_back(slot, known);
        let_in
    }

    /// Gives a session what it may do by the rules of now, and takes what it may not do any more.
    ///
    /// # Errors
    /// Why it may not stay.
    fn review(&mut self, slot: &mut Slot<P, Session>) -> Result<(), CloseReason> {
        let member = slot.session.member();
        let credential = match member.pass.as_ref().map(|pass| pass.credential()) {
            // Whether it makes a difference where it is depends on the rules.
            Some(Credential::Anonymous | Credential::Local) => self.cx.credential(member, true),
            Some(shown) => shown,
            None if member.native || member.subscriptions() > 0 => self.cx.credential(member, member.native),
            None => return Ok(()), // its next frame shows what it is
        };
        match &mut self.cx.guard {
            Some(guard) => {
                let pass = guard.readmit(credential).inspect_err(|_| self.cx.stats.sessions_denied += 1)?;
                self.cx.let_in(slot.id, member, pass);
            }
            None => {
                member.outlet.set_max_queued(None, self.cx.config.high_water);
                member.pass = member.pass.take().map(|pass| Box::new(Pass::of_nobody(pass.credential())));
            }
        }
        self.review_patterns(slot);
        Ok(())
    }

    /// Ends subscriptions that are not permitted, and says so.
    fn review_patterns(&mut self, slot: &mut Slot<P, Session>) {
        let Self { cx, hub, .. } = self;
        let limits = foreign::limits(cx.config.subjects);
        let (_, Me { id, control, member, .. }) = slot.session.split(slot.id);
        let mut pass = member.pass.as_mut();
        let mut ended = Vec::new();
        member.patterns.retain(|text, latest| match Pattern::new(text, &limits) {
            Ok(pattern) if !cx.may_subscribe(pass.as_deref_mut(), pattern) => {
                ended.push((text.clone(), *latest));
                false
            }
            _ => true,
        });
        for (text, latest) in &ended {
            if let Some(catch_up) = &mut member.catch_up {
                catch_up.forget(text);
            }
            if let Ok(pattern) = Pattern::new(text, &limits) {
                hub.unsubscribe(pattern, id.slot, *latest);
            }
        }
        let mut ended: Vec<_> = ended.into_iter().map(|(text, _)| text).collect();
        if let Some(membership) = &mut member.membership {
            let may = |text: &str| {
                Pattern::new(text, &limits).is_ok_and(|pattern| cx.may_subscribe(pass.as_deref_mut(), pattern))
            };
            membership.retain(may, |number, text| {
                let pattern = parts(&text).0;
                if let Ok(pattern) = Pattern::new(pattern, &limits) {
                    hub.part(&text, pattern, id.slot, number);
                }
                ended.push(pattern.into());
            });
        }
        let may = |text: &str| Pattern::new(text, &limits).is_ok_and(|own| cx.may_subscribe(pass.as_deref_mut(), own));
        for (pattern, was_open) in hub.review_replays(id, &mut member.replays, may) {
            member.unanswered = member.unanswered.saturating_sub((!was_open).into());
            ended.push(pattern);
        }
        for text in ended {
            cx.stats.subscriptions -= 1;
            cx.stats.subscriptions_ended += 1;
            let words = format!("not permitted to subscribe to {text} any more: the subscription has ended");
            notify(control, member.native, &words, Notice::SubscriptionEnded(&text));
            let identity = member.pass.as_ref().and_then(|pass| pass.name().cloned());
            cx.say_subscription(hub, UNSUBSCRIBED, (id, member), &text, None);
            cx.tell(Event::SubscriptionDenied { id, identity, pattern: text });
        }
    }
}
