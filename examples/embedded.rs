//! A server as part of a program: with rules, a look at who is there, and what to do if it fails.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};

use kcpq_smol::{Client, Event};
use kcpq_std_server::access::{Access, Group, Permissions, Rules};
use kcpq_std_server::{Config, Server, broker};

fn main() -> Result<(), Box<dyn Error>> {
    // Everybody may publish readings and read all but secrets.
    let publish = Rules { allow: Some(vec!["sensors.>".into()]), ..Rules::default() };
    let subscribe = Rules { deny: vec!["secret.>".into()], ..Rules::default() };
    let everybody =
        Group { name: "everybody".into(), permissions: Permissions { publish, subscribe }, ..Group::default() };
    let access = Access { groups: vec![everybody], anonymous: Some(0), ..Access::default() };
    let broker = broker::Config { name: "embedded".into(), max_queued: 4 << 20, ..broker::Config::default() };
    let listen = "127.0.0.1:0".parse()?;
    let server = Server::bind(Config { listen, broker, access: Some(access), ..Config::default() })?;
    println!("listening on {}", server.local_addr());

    // A thread of it that panics must not go unnoticed.
    static FAILED: AtomicBool = AtomicBool::new(false);
    server.on_failure(|| FAILED.store(true, Ordering::Relaxed));

    smol::block_on(async {
        // The program itself is a client like any other.
        let client = Client::builder().name("the program").connect(server.local_addr()).await?;
        let mut readings = client.subscribe("sensors.*").await?;
        let mut events = client.events();
        client.publish("sensors.room", "21.5").await?;
        println!("reading: {}", readings.next().await.ok_or("the subscription ended")?.text());

        // What is not permitted is not published, and the publisher is told.
        client.publish("settings.room", "on").await?;
        while let Some(event) = events.next().await {
            if let Event::Denied { subject, .. } = event {
                println!("denied:  {subject}");
                break;
            }
        }
        for session in server.sessions() {
            println!(
                "session: {} from {}, {} messages in, {} out",
                session.client.as_deref().unwrap_or("unnamed"),
                session.peer,
                session.messages.messages_in,
                session.messages.messages_out
            );
        }
        client.close().await?;
        Ok::<(), Box<dyn Error>>(())
    })?;

    let stats = server.snapshot().ok_or("a thread of the server has ended")?.broker;
    println!(
        "server:  {} messages, {} denied, {} dropped",
        stats.messages_in, stats.messages_denied, stats.dropped_slow
    );
    // Tells the clients, and sends what still waits for them.
    server.shutdown();
    if FAILED.load(Ordering::Relaxed) { Err("the server has failed".into()) } else { Ok(()) }
}
