//! Measures how long a message takes to another client and back.

use std::error::Error;
use std::time::{Duration, Instant};

use kcpq_smol::Client;

const ROUNDS: usize = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4000".into());
    smol::block_on(async {
        let ponger = Client::connect(&addr).await?;
        let answers = ponger.clone();
        // The callback has a task of its own. It must not wait, so it queues the answer or gives up.
        let _pong = ponger
            .subscribe("ping")
            .for_each(move |message| {
                if let Err(error) = answers.try_publish("pong", message.payload()) {
                    eprintln!("no answer: {error}");
                }
            })
            .await?;

        let pinger = Client::connect(&addr).await?;
        let mut pongs = pinger.subscribe("pong").await?;
        let mut times = Vec::with_capacity(ROUNDS);
        for n in 0..ROUNDS {
            let begun = Instant::now();
            pinger.publish("ping", n.to_be_bytes()).await?;
            pongs.next().await.ok_or("the subscription ended")?;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        let at = |share: f64| -> Duration { times[((ROUNDS - 1) as f64 * share) as usize] };
        println!("{ROUNDS} rounds: median {:?}, 99 % within {:?}, longest {:?}", at(0.5), at(0.99), at(1.0));
        pinger.close().await?;
        Ok(())
    })
}
