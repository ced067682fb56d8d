//! Live comments: what one writes is shown to a crowd, of which the argument says how large it is.
//!
//! Server and crowd are one process here, and each of the crowd is a whole client with a socket: 5,000 need about 1.5
//! GB, and `ulimit -n 20000`.

use std::error::Error;
use std::time::{Duration, Instant};

use kcpq_smol::{Client, Subscription};
use kcpq_std_server::{Config, Server, broker};
use smol::Timer;

const COMMENTS: u32 = 40;
const PACE: Duration = Duration::from_millis(50);
/// Clients that connect at the same time.
const TOGETHER: usize = 64;

type Failure = Box<dyn Error + Send + Sync>;

async fn join(addr: String, number: usize) -> Result<(Client, Subscription), Failure> {
    let builder = Client::builder().name(format!("viewer {number}")).timeout(Duration::from_secs(30));
    let client = builder.connect(addr).await?;
    let comments = client.subscribe("live.comments").await?;
    Ok((client, comments))
}

/// Reads until the last comment, and measures how late each is.
async fn watch(client: Client, mut comments: Subscription, begun: Instant) -> Result<Vec<Duration>, Failure> {
    let mut late = Vec::with_capacity(COMMENTS as usize);
    for _ in 0..COMMENTS {
        let comment = comments.next().await.ok_or("the subscription ended")?;
        let sent = Duration::from_micros(comment.headers().get("Sent").ok_or("no time")?.parse()?);
        late.push(begun.elapsed().saturating_sub(sent));
    }
    client.close().await?;
    Ok(late)
}

fn main() -> Result<(), Failure> {
    let crowd: usize = std::env::args().nth(1).map_or(Ok(200), |text| text.parse())?;
    let broker = broker::Config { max_sessions_per_host: crowd + 1, ..broker::Config::default() };
    let server = Server::bind(Config { listen: "127.0.0.1:0".parse()?, broker, ..Config::default() })?;
    let addr = server.local_addr().to_string();
    let begun = Instant::now();

    smol::block_on(async {
        let mut viewers = Vec::with_capacity(crowd);
        for first in (0..crowd).step_by(TOGETHER) {
            let joining: Vec<_> =
                (first..crowd.min(first + TOGETHER)).map(|number| smol::spawn(join(addr.clone(), number))).collect();
            for joined in joining {
                viewers.push(joined.await?);
            }
        }
        println!("{} are watching after {:.1} s", viewers.len(), begun.elapsed().as_secs_f64());
        let watching: Vec<_> =
            viewers.into_iter().map(|(client, comments)| smol::spawn(watch(client, comments, begun))).collect();

        let writer = Client::connect(&addr).await?;
        for number in 0..COMMENTS {
            let sent = begun.elapsed().as_micros().to_string();
            writer.publish("live.comments", format!("comment {number}")).header("Sent", &sent).await?;
            Timer::after(PACE).await;
        }
        let mut late = Vec::with_capacity(crowd * COMMENTS as usize);
        for viewer in watching {
            late.extend(viewer.await?);
        }
        late.sort_unstable();
        let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize];
        let (median, most) = (at(0.5), at(0.99));
        println!("{COMMENTS} comments to {crowd}: {} arrived, median {median:?}, 99 % within {most:?}", late.len());
        writer.close().await?;
        Ok::<(), Failure>(())
    })?;
    let stats = server.snapshot().ok_or("the server has ended")?.broker;
    println!("{} sessions were opened, {} messages dropped", stats.sessions_opened, stats.dropped_slow);
    server.shutdown();
    Ok(())
}
