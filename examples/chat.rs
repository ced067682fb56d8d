//! A chat that knows who is there: the server says who comes and goes, and publishes the last will of who is lost.

use std::error::Error;

use kcpq_smol::{Client, Subscription, Will};
use kcpq_std_server::broker::{self, Audience, Presence};
use kcpq_std_server::{Config, Server};
use serde::Deserialize;

/// What the server says of a session, as far as it is of interest here.
#[derive(Deserialize)]
struct Notice {
    event: String,
    name: String,
}

/// Comes into the room. Should it be lost, the server has a word for the others.
async fn join(addr: &str, name: &str) -> Result<(Client, Subscription), Box<dyn Error>> {
    let will = Will::new("room", format!("({name} is lost)"));
    let client = Client::builder().name(name).will(will).connect(addr).await?;
    let room = client.subscribe("room").await?;
    Ok((client, room))
}

fn main() -> Result<(), Box<dyn Error>> {
    let presence = Presence { audience: Audience::Everybody, ..Presence::default() };
    let broker = broker::Config { presence, ..broker::Config::default() };
    let server = Server::bind(Config { listen: "127.0.0.1:0".parse()?, broker, ..Config::default() })?;
    let addr = server.local_addr().to_string();

    smol::block_on(async {
        let (alice, mut room) = join(&addr, "alice").await?;
        // Of other clients than herself, and not of what they subscribe to.
        let mut comings = alice.subscribe("$KCPQ.session.opened.*").await?;
        let mut goings = alice.subscribe("$KCPQ.session.closed.*").await?;
        let end = || "the subscription ended";

        let (bob, _) = join(&addr, "bob").await?;
        let Notice { event, name } = comings.next().await.ok_or_else(end)?.json()?;
        println!("server  {event}: {name}");

        bob.publish("room", "hello, alice").await?;
        println!("room    {}", room.next().await.ok_or_else(end)?.text());

        // As if his battery were empty, only sooner: whoever runs the server ends his session.
        let lost = server.sessions().find(|session| session.client.as_deref() == Some("bob")).ok_or("no bob")?;
        server.kick(lost.id);
        println!("room    {}", room.next().await.ok_or_else(end)?.text());
        let Notice { event, name } = goings.next().await.ok_or_else(end)?.json()?;
        println!("server  {event}: {name}");

        bob.close().await?;
        alice.close().await?;
        Ok::<(), Box<dyn Error>>(())
    })?;
    server.shutdown();
    Ok(())
}
