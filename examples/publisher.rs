//! Publishes a simulated temperature ten times a second, and knows that the server has each.

use std::error::Error;
use std::time::Duration;

use kcpq_smol::Client;

fn main() -> Result<(), Box<dyn Error>> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4000".into());
    smol::block_on(async {
        let client = Client::connect(&addr).await?;
        for n in 0..100u32 {
            let celsius = 20.0 + f64::from(n % 20) / 10.0;
            // Queued at once; without a connection it waits in the queue until there is one.
            client.publish("sensors.kitchen.temperature", format!("{celsius:.1}")).await?;
            smol::Timer::after(Duration::from_millis(100)).await;
        }
        // Until here the server may not have seen the last ones; now it has handled all of them.
        client.flush().await?;
        let stats = client.stats();
        println!("{} messages, round trip {:?}", stats.client.messages_acknowledged, stats.round_trip);
        client.close().await?;
        Ok(())
    })
}
