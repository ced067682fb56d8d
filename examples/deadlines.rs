//! Deadlines and cancellation: each operation has a limit, and ends early by being dropped.

use std::error::Error;
use std::time::{Duration, Instant};

use kcpq_smol::{Client, RequestError};
use kcpq_std_server::{Config, Server};
use smol::Timer;
use smol::future::or;

fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::bind(Config { listen: "127.0.0.1:0".parse()?, ..Config::default() })?;
    let addr = server.local_addr().to_string();

    smol::block_on(async {
        // The usual limit of all operations of this client, and another one for a single operation.
        let client = Client::builder().timeout(Duration::from_secs(2)).connect(&addr).await?;
        let mut news = client.subscribe("news.*").within(Duration::from_millis(500)).await?;

        // Nothing comes: waiting ends, the subscription goes on.
        match news.next().within(Duration::from_millis(100)).await {
            Ok(_) => return Err("there were no news".into()),
            Err(late) => println!("next      {late}"),
        }

        // Somebody is there and does not answer. The request carries its limit, so the one asked need not answer later.
        let _deaf = client.subscribe("question").await?;
        match client.request("question", "why?").within(Duration::from_millis(100)).await {
            Err(RequestError::Failed(why)) => println!("request   {why}"),
            other => return Err(format!("an answer from nobody: {other:?}").into()),
        }

        // Several steps with one moment at which all has to be done.
        let moment = Instant::now() + Duration::from_secs(1);
        client.publish("news.today", "good").until(moment).await?;
        client.flush().until(moment).await?;
        let message = news.next().until(moment).await?;
        println!("until     {}: {}", message.subject(), message.text());

        // Worth nothing after a while: wherever it still waits then, it is dropped.
        client.publish("news.today", "stale soon").ttl(Duration::from_secs(5)).await?;
        news.next().await.ok_or("the subscription ended")?;

        // Cancellation is dropping: of the two the one that is slower. No message is lost by it.
        let cancelled = or(async { news.next().await.is_some() }, async {
            Timer::after(Duration::from_millis(50)).await;
            false
        });
        println!("cancelled {}", !cancelled.await);
        client.publish("news.today", "still here").await?;
        println!("and then  {}", news.next().await.ok_or("the subscription ended")?.text());

        client.close().within(Duration::from_secs(1)).await?;
        Ok::<(), Box<dyn Error>>(())
    })?;
    server.shutdown();
    Ok(())
}
