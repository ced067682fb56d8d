//! A video through a server over a link that loses every tenth datagram, each way: what comes out is what went in,
//! frame by frame.

#[path = "../h264_relay/annex_b.rs"]
mod annex_b;
#[allow(dead_code)]
#[path = "../h264_relay/play.rs"]
mod play;
#[path = "../h264_relay/publish.rs"]
mod publish;
#[allow(dead_code)]
#[path = "../../kcpq-std-server/tests/support/relay.rs"]
mod relay;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kcpq_std_server::{Config, Server};
use publish::Source;
use relay::{Relay, RelayConfig};

const FRAMES: usize = 300;
const FPS: u32 = 60;

/// Where the video lies, and goes with this.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What ffmpeg writes, or nothing where it is not installed.
fn ffmpeg(args: &[&str], paths: &[&Path]) -> Option<String> {
    let output = Command::new("ffmpeg").args(["-nostdin", "-loglevel", "error", "-y"]).args(args).args(paths).output();
    let Ok(output) = output else {
        assert!(std::env::var_os("KCPQ_REQUIRE_FFMPEG").is_none(), "ffmpeg is not installed");
        eprintln!("skipped: ffmpeg is not installed");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The checksum of each picture that a decoder makes of a video.
fn pictures(video: &Path) -> Vec<String> {
    let args = ["-f", "h264", "-i", video.to_str().unwrap(), "-f", "framemd5", "-"];
    let sums = ffmpeg(&args, &[]).unwrap();
    let sum = |line: &str| line.rsplit(',').next().unwrap().trim().to_owned();
    sums.lines().filter(|line| !line.starts_with('#')).map(sum).collect()
}

#[test]
fn a_video_arrives_whole_over_a_link_that_loses_a_tenth() {
    let folder = Folder(std::env::temp_dir().join(format!("kcpq-h264-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).unwrap();
    let [sent, received] = ["sent.h264", "received.h264"].map(|name| folder.0.join(name));
    // A picture that says its number, so that no two are the same.
    let video = format!("testsrc=size=640x360:rate={FPS}:duration={}", FRAMES as u32 / FPS);
    let args = ["-f", "lavfi", "-i", &video, "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"];
    let more = ["-g", "60", "-pix_fmt", "yuv420p", "-f", "h264"];
    if ffmpeg(&[&args[..], &more].concat(), &[&sent]).is_none() {
        return;
    }

    let server = Server::bind(Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() }).unwrap();
    let bad = RelayConfig { seed: 5, loss: 0.1, delay: Duration::from_millis(2), ..RelayConfig::default() };
    let link = Relay::start(server.local_addr(), bad);
    let addr = link.addr().to_string();
    let report = smol::block_on(async {
        let mut target = play::create(received.to_str().unwrap()).unwrap();
        let (client, mut video) = play::tune_in(&addr, "video.test").await.unwrap();
        let mut source = Source::open(sent.to_str().unwrap()).await.unwrap();
        let publishing = publish::publish(&addr, "video.test", &mut source, Some(FPS));
        let playing = play::play(&mut video, &mut target);
        let (count, report) = smol::future::zip(publishing, playing).await;
        assert_eq!(count.unwrap(), FRAMES as u64);
        let report = report.unwrap();
        client.close().await.unwrap();
        report
    });
    println!("{report}");
    assert_eq!((report.frames, report.dropped), (FRAMES, 0));
    assert!(link.to_upstream().lost > 10 && link.to_clients().lost > 10);

    let (sent_bytes, received_bytes) = (std::fs::read(&sent).unwrap(), std::fs::read(&received).unwrap());
    assert!(sent_bytes == received_bytes, "what came is not what was sent");
    let pictures = [pictures(&sent), pictures(&received)];
    assert_eq!(pictures[0].len(), FRAMES);
    assert_eq!(pictures[0], pictures[1]);
    drop(link);
    server.shutdown();
}
