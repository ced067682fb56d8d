//! Who wants a message, once that has been looked up: the same for all messages of a subject, as long as no subscription changes.

use alloc::vec::Vec;

use crate::broker::delivery::{Aim, Delivery};
use crate::broker::groups::{self, Groups};
use crate::broker::party::{Party, Subscriber};
use crate::broker::peer::Peer;
use crate::router::Router;

/// See above.
pub(super) struct Wanted<'h> {
    pub(super) router: &'h Router,
    pub(super) groups: &'h mut Groups,
    pub(super) aim: Aim,
    /// By the router's numbers, without the gateway.
    pub(super) by: &'h [u32],
    /// Of these the shares of groups, while a message is handed out.
    pub(super) shares: &'h mut Vec<groups::Found>,
    /// The gateway, which comes last: it is told whether queue groups have the message already.
    pub(super) gateway: Option<u8>,
    /// The gateway if nobody there wants it: whether somebody stores it is the backbone's to say.
    pub(super) aloof: Option<u8>,
    /// So many others have it already.
    pub(super) elsewhere: u32,
}

impl Wanted<'_> {
    /// Hands a message to all of them. Says to how many.
    #[inline(always)] // into the two ways that messages go
    pub(super) fn hand<P: Peer>(&mut self, delivery: &mut Delivery<'_, '_, '_, P>) -> u32 {
        let Self { router, groups, aim, by, shares, gateway, aloof, elsewhere } = self;
        let mut gateway = *gateway;
        if aloof.is_some() {
            gateway = aloof.filter(|_| delivery.is_to_be_stored());
            if gateway.is_none() {
                delivery.stays_here();
            }
        }
        if let ([number], Aim::All, None) = (*by, *aim, gateway)
            && let Subscriber::Share(share) = Subscriber::from(*number)
        {
            let found = groups.found(share);
            return delivery.hand_to_group(groups, &[found]).into();
        }
        let (mut latest, mut abroad) = (false, 0);
        for number in by.iter() {
            match Subscriber::from(*number) {
                Subscriber::Every(party) => delivery.hand_to(party, false, &[]),
                Subscriber::Latest(_) => latest = true,
                Subscriber::Share(share) => shares.push(groups.found(share)),
                Subscriber::Abroad => abroad = 1,
            }
        }
        if latest {
            for number in by.iter() {
                // It may match another pattern of this session, which wants every message.
                if let Subscriber::Latest(slot) = Subscriber::from(*number)
                    && !router.was_told(Subscriber::Every(Party::Session(slot)).into())
                {
                    delivery.hand_to(Party::Session(slot), true, &[]);
                }
            }
        }
        let mut reach = (by.len() - shares.len() - abroad) as u32 + *elsewhere;
        let mut served = 0;
        if !shares.is_empty() {
            if abroad == 0 || gateway.is_none() {
                served = delivery.hand_to_groups(*aim, groups, shares);
            }
            shares.clear();
        }
        reach += served;
        if let Some(gateway) = gateway {
            reach += 1;
            delivery.hand_to_gateway(gateway, served > 0);
        }
        reach
    }
}
