//! Proof by linking that the core needs neither `std` nor an allocator.
//!
//! Only `core` is built for this target, and the program defines no global allocator. It drives a whole client over lent
//! memory; what the optimiser cannot see through (`black_box`) it cannot remove from the image.
//!
//! And proof that nothing of it can panic, whatever is received, published or subscribed to: the panic handler calls a
//! function that does not exist, so the program links only if the compiler has shown that no call of it is left. That
//! holds for this compiler and these settings, which are those of a firmware. Arithmetic wraps in them; that none is
//! meant to is watched by the fuzz targets, which run with overflow checks.
//!
//! With keys that is too much to ask: some of their primitives have checks of which the compiler does not see that they
//! never fail. So with the feature `sealed` the program links, and `panics` beside this folder's sources says from
//! where it could come here, and that these are the places that are known.

#![no_std]
#![no_main]

use core::hint::black_box;

#[cfg(feature = "all")]
use kcpq_core::Duration;
use kcpq_core::Instant;
use kcpq_core::client::{Client, Config, Event, Memory};
#[cfg(feature = "all")]
use kcpq_core::client::{ConfirmMemory, Confirmed, LaneMemory, Subscribing};
#[cfg(feature = "all")]
use kcpq_core::frame::Properties;
use kcpq_core::kcp;
#[cfg(feature = "all")]
use kcpq_core::lane::Lane;

const MSS: usize = 488;
const WINDOW: usize = 4;

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut memory = Memory::<MSS, WINDOW, 512, 1024, 4>::new();
    #[cfg(feature = "all")]
    let (mut lanes, mut confirms) = (LaneMemory::<3, 512, WINDOW>::new(), ConfirmMemory::<3>::new());
    let engine = kcp::Config { send_window: WINDOW as u16, recv_window: WINDOW as u16, ..kcp::Config::GAMES };
    let config = Config { kcp: engine, max_datagram: 520, ..Config::default() };
    let mut client = Client::new(config, black_box(1), memory.lend());
    let mut datagram = [0; 520];
    #[cfg(feature = "all")]
    let _ = black_box((client.lend_lanes(&mut lanes), client.lend_confirms(&mut confirms)));
    #[cfg(feature = "sealed")]
    seal(&mut client);
    client.connect(Instant::ZERO);
    let subscription = client.subscribe(Instant::ZERO, black_box("commands.*"));
    loop {
        let now = Instant::from_micros(black_box(0));
        client.handle_datagram(now, black_box(&mut datagram));
        client.handle_timeout(now);
        while let Some(event) = client.poll_event() {
            if let Event::Message { message, .. } = &event {
                black_box((message.subject(), message.payload()));
            }
        }
        client.hold_message();
        black_box(client.held_message());
        client.release_message();
        black_box((client.stats(), client.conversation(), client.state()));
        let _ = black_box(client.publish(now, black_box("sensors.a"), black_box(b"21.5")));
        #[cfg(feature = "all")]
        let _ =
            black_box(client.publish_for(now, "sensors.a", black_box(b"21.5"), Duration::from_millis(black_box(5))));
        #[cfg(feature = "all")]
        if let Some(lane) = Lane::new(black_box(1)) {
            let (ttl, properties) =
                (black_box(None), if black_box(true) { Properties::LATEST } else { Properties::NONE });
            let _ = black_box(client.publish_in(now, lane, black_box("state.a"), black_box(b"on"), properties, ttl));
            let mut confirmed = Confirmed::default();
            (confirmed.properties, confirmed.ttl, confirmed.lane) = (properties, ttl, lane);
            confirmed.within = Duration::from_millis(black_box(5));
            let routed = client.publish_confirmed(now, black_box("log.a"), black_box(b"on"), &confirmed);
            if let Ok(id) = routed {
                black_box(client.forget_confirmation(id));
            }
            let _ = black_box(client.publish_stored(now, black_box("log.a"), b"on", black_box("1"), &confirmed));
            let wanted = Subscribing { latest: black_box(true), lane: black_box(Some(lane)), ..Default::default() };
            let _ = black_box(client.subscribe_as(now, black_box("state.*"), &wanted));
        }
        while let Some(len) = client.poll_transmit(now, &mut datagram) {
            black_box(datagram.get(..len));
        }
        black_box(client.poll_timeout());
        if black_box(false) {
            client.flush(now);
            client.suspect(now);
            client.suspend(now);
            client.resume(now);
            let _ = client.subscribe_latest(now, black_box("state.>"));
            if let Ok(id) = subscription {
                client.unsubscribe(now, id);
            }
            client.close(now);
        }
    }
}

/// With keys of every kind.
#[cfg(feature = "sealed")]
fn seal(client: &mut Client<kcpq_core::store::Lent<'_>>) {
    use kcpq_core::seal::{Cipher, PrivateKey, PublicKey, SharedSecret, Token, Trust};
    let server = PublicKey::from_bytes(black_box([1; 32]));
    let trust = match black_box(0) {
        0 => Trust::Identity { key: PrivateKey::from_bytes(black_box(&[2; 32])), server },
        1 => Trust::Anonymous { server },
        2 => Trust::Token { token: Token::from_bytes(black_box(&[3; 32])), server },
        _ => Trust::Shared { secret: SharedSecret::from_bytes(black_box(&[4; 32])) },
    };
    let _ = black_box(client.use_keys(trust, Cipher::ChaChaPoly, black_box(&[5; 32])));
}

#[cfg(not(feature = "sealed"))]
unsafe extern "C" {
    fn something_can_panic() -> !;
}

/// What `panics` looks for the callers of.
#[cfg(feature = "sealed")]
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn something_can_panic() -> ! {
    loop {
        black_box(());
    }
}

#[cfg(feature = "sealed")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    something_can_panic()
}

#[cfg(not(feature = "sealed"))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: it is nowhere: a program that could come here does not link.
    unsafe { something_can_panic() }
}
