//! What WILL does.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use super::{Dispatch, notify, read};
use crate::broker::event::Event;
use crate::broker::peer::Peer;
use crate::broker::turn;
use crate::broker::wills::Will;
use crate::frame::{Frame, command};
use crate::hello::Notice;

impl<P: Peer> Dispatch<'_, P> {
    /// A client says what its last will is, or that it has none.
    pub(super) fn leave_will(&mut self, frame: Frame<'_>) {
        self.cx.turn.charge(turn::ENTRY);
        let Some((key, payload)) = frame.payload.split_first_chunk() else {
            return self.refuse_will(frame, "it is cut short");
        };
        let key = u64::from_be_bytes(*key);
        let Self { cx, hub, table, me, .. } = self;
        match &me.member.will {
            None => {
                // What earlier sessions of this client have left, here and elsewhere.
                cx.void_wills_of(table, key);
                hub.shards.void_wills_of(key);
                me.member.will = Some(Box::new(Will::of(key)));
            }
            Some(will) if will.key == key => {
                cx.void_will(me.id, me.member);
            }
            Some(_) => return self.refuse_will(frame, "another key than before in this session"),
        }
        if !frame.subject.is_empty()
            && let Err(why) = self.take_will(Frame { command: command::PUBX, payload, ..frame })
        {
            self.refuse_will(frame, &why);
        }
    }

    /// Keeps a message as the will.
    ///
    /// # Errors
    /// For people: why not.
    fn take_will(&mut self, message: Frame<'_>) -> Result<(), String> {
        let Self { cx, me, .. } = self;
        let (subject, _, properties) = read(message, &cx.config.subjects).map_err(|unread| format!("{unread}"))?;
        if !cx.permits_will(me.member.pass.as_mut(), subject) {
            let identity = me.member.pass.as_ref().and_then(|pass| pass.name().cloned());
            cx.tell(Event::PublishDenied { id: me.id, identity, subject: subject.as_str().into() });
            return Err(format!("not permitted to publish to {}", subject.as_str()));
        }
        if properties.retains() && !cx.keeps {
            return Err("it is to be kept as a last value, and the server keeps none".into());
        }
        let (len, limit, total) = (message.encoded_len(), cx.config.max_will, cx.config.max_wills_total);
        if len > limit {
            return Err(format!("it has {len} bytes, the limit is {limit}"));
        }
        if cx.stats.wills_bytes + len as u64 > total as u64 {
            return Err(format!("there is no room for more, the limit is {total} bytes for all clients together"));
        }
        let mut bytes = alloc::vec![0; len];
        if let (Some(_), Some(will)) = (message.encode(&mut bytes), &mut me.member.will) {
            cx.leave_will(me.id, will, bytes.into());
        }
        Ok(())
    }

    fn refuse_will(&mut self, frame: Frame<'_>, why: &str) {
        let Self { cx, me, .. } = self;
        cx.stats.wills_refused += 1;
        let subject = core::str::from_utf8(frame.subject).unwrap_or_default();
        notify(me.control, true, &format!("last will not taken: {why}"), Notice::WillRefused(subject));
    }
}
