//! A callback for each message, and statistics while it works: of the connection, and of the subscription.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kcpq_smol::{Client, Event};
use kcpq_std_server::{Config, Server};
use smol::Timer;

const MESSAGES: u64 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::bind(Config { listen: "127.0.0.1:0".parse()?, ..Config::default() })?;
    let addr = server.local_addr().to_string();

    smol::block_on(async {
        let client = Client::connect(&addr).await?;
        let mut events = client.events();
        let handled = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&handled);
        // It runs on a thread for such work, one call after the other, and may block: who takes more than 100 ms is
        // reported.
        let subscription = client
            .subscribe("orders.*")
            .capacity(2_000)
            .for_each(move |message| {
                if count.fetch_add(1, Ordering::Relaxed) == 0 {
                    println!("first    {}: {}", message.subject(), message.text());
                    std::thread::sleep(Duration::from_millis(150));
                }
            })
            .await?;

        let publisher = Client::connect(&addr).await?;
        for number in 0..MESSAGES {
            publisher.publish("orders.new", format!("order {number}")).await?;
        }
        publisher.flush().await?;

        while handled.load(Ordering::Relaxed) < MESSAGES {
            let stats = subscription.stats();
            println!("waiting  {} received, {} handled, {} wait", stats.received, stats.processed, stats.queued);
            Timer::after(Duration::from_millis(50)).await;
        }
        while let Some(event) = events.next().await {
            if let Event::SlowHandler { .. } = event {
                println!("slow     {event:?}");
                break;
            }
        }
        let stats = client.stats();
        println!(
            "client   {} messages of {} bytes received, round trip {:?}, {} reconnects, {} segments sent again",
            stats.client.messages_received,
            stats.client.bytes_received,
            stats.round_trip,
            stats.client.reconnects,
            stats.transport.retransmitted
        );
        let stats = subscription.stats();
        println!("in all   {} received, {} handled, {} dropped", stats.received, stats.processed, stats.dropped);
        publisher.close().await?;
        client.close().await?;
        Ok::<(), Box<dyn Error>>(())
    })?;
    server.shutdown();
    Ok(())
}
