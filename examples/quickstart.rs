//! A message travels: server, subscriber and publisher in one process.

use std::error::Error;

use kcpq_smol::Client;
use kcpq_std_server::{Config, Server};

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::bind(Config { listen: "127.0.0.1:0".parse()?, ..Config::default() })?;
    let addr = server.local_addr().to_string();
    println!("server      listens on {addr}");

    smol::block_on(async {
        let subscriber = Client::connect(&addr).await?;
        let mut greetings = subscriber.subscribe("greet.*").await?;
        println!("subscriber  subscribed to greet.*");

        let publisher = Client::connect(&addr).await?;
        publisher.publish("greet.world", "hello").await?;
        println!("publisher   published 'hello' to greet.world");

        let message = greetings.next().await.ok_or("the subscription ended")?;
        println!("subscriber  got '{}' from {}", message.text(), message.subject());

        publisher.close().await?;
        subscriber.close().await?;
        Ok::<(), Box<dyn Error>>(())
    })?;
    server.shutdown();
    Ok(())
}
