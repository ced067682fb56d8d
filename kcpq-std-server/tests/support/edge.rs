//! Servers of kcpq that stand on NATS, clients of theirs, and what these get.

use std::time::Duration;

use futures_lite::future::poll_once;
use kcpq_core::broker::gateway;
use kcpq_smol::{Client, Message, Subscription};
use kcpq_std_server::{Backbone, BackboneView, Config, Server};
use smol::Timer;

use super::nats::NatsClient;
use super::tally::Tally;
use super::wait::{LIMIT, soon, until, until_async};

/// Two threads, where a server may have several.
pub(crate) const SHARDS: usize = if cfg!(target_os = "linux") { 2 } else { 1 };

/// To stand on one of these, as a client.
///
/// # Panics
///
/// If one of them is no address.
pub(crate) fn on(urls: &[String]) -> Backbone {
    Backbone { servers: urls.iter().map(|url| url.parse().expect("an address")).collect(), ..Backbone::default() }
}

/// A server that is about to stand there.
///
/// # Panics
///
/// If it cannot.
pub(crate) fn bind(backbone: Backbone) -> Server {
    let listen = ([127, 0, 0, 1], 0).into();
    Server::bind(Config { listen, shards: SHARDS, backbone: Some(backbone), ..Config::default() }).expect("a server")
}

/// A server, once it stands there.
pub(crate) async fn serve(backbone: Backbone) -> Server {
    let server = bind(backbone);
    joined(&server).await;
    server
}

/// Waits until it does.
pub(crate) async fn joined(server: &Server) {
    until("the backbone is there", || stats(server).joined == 1).await;
}

pub(crate) fn view(server: &Server) -> BackboneView {
    server.view().backbone().expect("it has a backbone")
}

pub(crate) fn stats(server: &Server) -> gateway::Stats {
    view(server).stats
}

pub(crate) async fn client(server: &Server) -> Client {
    Client::builder().timeout(LIMIT).capacity(100_000).connect(server.local_addr()).await.expect("a client")
}

/// What comes next, as text.
pub(crate) async fn next(subscription: &mut Subscription) -> String {
    soon("a message", subscription.next()).await.expect("it goes on").text().into_owned()
}

/// All that has come.
pub(crate) async fn drain(subscription: &mut Subscription) -> Vec<Message> {
    let mut all = Vec::new();
    while let Some(message) = poll_once(subscription.next()).await.flatten() {
        all.push(message);
    }
    all
}

/// Servers with a client each of several kinds of backbone, and one of NATS: all publish and listen.
///
/// # Panics
///
/// If somebody misses something, or gets it twice or out of order, or if something is counted as lost.
pub(crate) fn everybody_gets_everything(backbones: Vec<Backbone>, mut there: NatsClient) {
    const COUNT: u32 = 500;
    smol::block_on(async {
        let (mut servers, mut clients, mut listeners) = (Vec::new(), Vec::new(), Vec::new());
        for backbone in backbones {
            let server = serve(backbone).await;
            // Several, so that both threads have some.
            for _ in 0..4 {
                let client = client(&server).await;
                listeners.push(client.subscribe("all.>").await.unwrap());
                clients.push(client);
            }
            servers.push(server);
        }
        // Patterns that overlap with it bring nothing twice.
        let mut narrow = clients[0].subscribe("all.*").await.unwrap();
        there.subscribe("all.>", None);
        acquaint(&clients, &mut listeners, &mut there).await;
        for number in 0..COUNT {
            // Of several subjects: the order is the publisher's, not the subject's.
            let subject = format!("all.{}", number % 7);
            for (index, client) in clients.iter().enumerate() {
                client.publish(&subject, format!("{index} {number}")).await.unwrap();
            }
            there.publish(&subject, None, &format!("there {number}"));
        }
        there.flush();
        let publishers = clients.len() + 1;
        for listener in listeners.iter_mut().chain([&mut narrow]) {
            let mut tally = Tally::default();
            while tally.total() < publishers * COUNT as usize {
                let message = soon("the rest", listener.next()).await.unwrap();
                if message.subject() != "all.probe" {
                    tally.take(&message.text());
                }
            }
            assert!(tally.is_all(publishers, COUNT), "{tally:?}");
        }
        let mut tally = Tally::default();
        while tally.total() < publishers * COUNT as usize {
            let message = there.next();
            if message.subject != "all.probe" {
                tally.take(&message.text);
            }
        }
        assert!(tally.is_all(publishers, COUNT), "{tally:?}");
        for listener in &mut listeners {
            assert_eq!(drain(listener).await.len(), 0, "nothing follows");
        }
        for server in &servers {
            let stats = stats(server);
            let lost = stats.dropped_away + stats.dropped_settled + stats.dropped_too_large + stats.dropped_unmapped;
            assert_eq!((lost, stats.in_doubt, stats.disconnects, stats.returned), (0, 0, 0, 0), "{stats:?}");
        }
        servers.into_iter().for_each(Server::shutdown);
    });
}

/// Publishes until everybody has heard everybody: what is wanted is known elsewhere a moment later. Probes that are still under way come
/// before what follows from the same publishers.
async fn acquaint(clients: &[Client], listeners: &mut [Subscription], there: &mut NatsClient) {
    let mut heard: Vec<Vec<String>> = listeners.iter().map(|_| Vec::new()).collect();
    // Of its own a client of NATS hears as well.
    let mut heard_there = Vec::new();
    until_async("all hear all", async || {
        for (index, client) in clients.iter().enumerate() {
            client.publish("all.probe", format!("probe{index}")).await.unwrap();
        }
        there.publish("all.probe", None, "there");
        there.flush();
        Timer::after(Duration::from_millis(20)).await;
        for (listener, heard) in listeners.iter_mut().zip(&mut heard) {
            heard.extend(drain(listener).await.into_iter().map(|message| message.text().into_owned()));
        }
        while let Some(message) = there.try_next(Duration::from_millis(1)) {
            heard_there.push(message.text);
        }
        heard.iter_mut().chain([&mut heard_there]).all(|heard| {
            heard.sort();
            heard.dedup();
            heard.len() == clients.len() + 1
        })
    })
    .await;
}
