//! Receives all sensors, and says when the connection is lost or messages are dropped.

use std::error::Error;

use kcpq_smol::{Client, Event};

fn main() -> Result<(), Box<dyn Error>> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4000".into());
    smol::block_on(async {
        let client = Client::connect(&addr).await?;
        let mut events = client.events();
        let watcher = smol::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::Disconnected { why, retry_in } => eprintln!("disconnected: {why}; retry in {retry_in:?}"),
                    Event::Reconnected { .. } => eprintln!("connected again"),
                    Event::Dropped { pattern, total } => {
                        eprintln!("{pattern}: {total} messages dropped: too slow here");
                    }
                    _ => {}
                }
            }
        });
        let mut sensors = client.subscribe("sensors.>").capacity(1_000).await?;
        // Ends when the client is closed; a lost connection comes back by itself.
        while let Some(message) = sensors.next().await {
            println!("{}: {}", message.subject(), message.text());
        }
        watcher.await;
        Ok(())
    })
}
