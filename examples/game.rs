//! A game of 32 players at 60 Hz: each says where it is, the game says it to all, and nobody waits for what is old.

use std::error::Error;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kcpq_smol::{Client, Lane, Preset};
use kcpq_std_server::{Config, Server};
use smol::Timer;
use smol::stream::StreamExt;

const PLAYERS: usize = 32;
const TICK: Duration = Duration::from_nanos(1_000_000_000 / 60);
/// Of a state nobody needs what is older than some ticks.
const FRESH: Duration = Duration::from_millis(100);

/// Where each player is; and when that was, in microseconds of the game.
type World = [(f32, f32); PLAYERS];

fn encode(now: Duration, world: &World) -> Vec<u8> {
    let places = world.iter().flat_map(|(x, y)| [x.to_be_bytes(), y.to_be_bytes()]).flatten();
    (now.as_micros() as u64).to_be_bytes().into_iter().chain(places).collect()
}

async fn connect(addr: &str, name: &str) -> Result<Client, Box<dyn Error + Send + Sync>> {
    Ok(Client::builder().name(name).preset(Preset::GAMES).connect(addr).await?)
}

/// Moves, and measures how old the state is that it has.
async fn play(
    addr: String,
    number: usize,
    begun: Instant,
    ticks: u32,
) -> Result<Vec<Duration>, Box<dyn Error + Send + Sync>> {
    let client = connect(&addr, &format!("player {number}")).await?;
    let mut states = client.subscribe("game.state").latest().await?;
    let input = format!("game.input.{number}");
    let mut ages = Vec::new();
    for tick in 0..ticks {
        let state = states.next().await.ok_or("the game is over")?;
        let sent = state.payload().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        ages.push(begun.elapsed().saturating_sub(Duration::from_micros(sent)));
        let angle = (number as f32) + tick as f32 / 60.0;
        let place = [angle.cos().to_be_bytes(), angle.sin().to_be_bytes()].concat();
        client.publish(&input, place).ttl(FRESH).await?;
    }
    client.close().await?;
    Ok(ages)
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let seconds: u32 = std::env::args().nth(1).map_or(Ok(3), |text| text.parse())?;
    let server = Server::bind(Config { listen: "127.0.0.1:0".parse()?, ..Config::default() })?;
    let addr = server.local_addr().to_string();
    let begun = Instant::now();

    smol::block_on(async {
        let game = connect(&addr, "game").await?;
        let world: Arc<Mutex<World>> = Arc::default();
        let places = Arc::clone(&world);
        // Of each player the newest place only.
        let mut inputs = game.subscribe("game.input.*").latest().await?;
        let listening = smol::spawn(async move {
            while let Some(input) = inputs.next().await {
                let number = input.subject().rsplit('.').next().and_then(|text| text.parse::<usize>().ok());
                let payload = input.payload();
                let read = |at: usize| payload.get(at..at + 4).and_then(|bytes| bytes.first_chunk().copied());
                if let (Some(number), Some(x), Some(y)) = (number.filter(|number| *number < PLAYERS), read(0), read(4))
                {
                    places.lock().expect("nobody panics with it")[number] =
                        (f32::from_be_bytes(x), f32::from_be_bytes(y));
                }
            }
        });
        let ticking = {
            let game = game.clone();
            smol::spawn(async move {
                let mut ticks = Timer::interval(TICK);
                while ticks.next().await.is_some() {
                    let state = encode(begun.elapsed(), &world.lock().expect("nobody panics with it"));
                    // Before all else, and dropped where it is too late.
                    if game.publish("game.state", state).lane(Lane::URGENT).ttl(FRESH).await.is_err() {
                        return;
                    }
                }
            })
        };
        let players: Vec<_> =
            (0..PLAYERS).map(|number| smol::spawn(play(addr.clone(), number, begun, 60 * seconds))).collect();
        let mut ages = Vec::new();
        for player in players {
            ages.extend(player.await?);
        }
        ages.sort_unstable();
        let at = |share: f64| ages[((ages.len() - 1) as f64 * share) as usize];
        println!("{} states at {PLAYERS} players: age median {:?}, 99 % below {:?}", ages.len(), at(0.5), at(0.99));
        ticking.cancel().await;
        game.close().await?;
        listening.await;
        Ok::<(), Box<dyn Error + Send + Sync>>(())
    })?;
    let stats = server.snapshot().ok_or("the server has ended")?.broker;
    println!("{} messages delivered, {} superseded, {} too old", stats.messages_out, stats.superseded, stats.expired);
    server.shutdown();
    Ok(())
}
