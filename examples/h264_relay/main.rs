//! Relays a video: a publisher reads H.264, a server hands it on, a subscriber writes what any player plays.
//!
//! ```sh
//! kcpq serve --preset video
//! ffmpeg -re -f lavfi -i testsrc=size=1280x720:rate=60 -c:v libx264 -tune zerolatency -f h264 - |
//!     h264_relay publish -
//! h264_relay play - | ffplay -f h264 -
//! ```

mod annex_b;
mod play;
mod publish;

use std::error::Error;

use self::publish::Source;

const USAGE: &str = "\
usage: h264_relay publish SOURCE [OPTIONS]   a file, - for standard input, or udp://ADDR:PORT
       h264_relay play TARGET [OPTIONS]      a file, or - for standard output

  --server ADDR    127.0.0.1:4000 without it
  --subject NAME   video.camera without it
  --fps N          publish so many pictures a second, not all that come at once";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(command), Some(place)) = (args.next(), args.next()) else { return Err(USAGE.into()) };
    let (mut server, mut subject, mut fps) = ("127.0.0.1:4000".to_owned(), "video.camera".to_owned(), None);
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
        match &*name {
            "--server" => server = value,
            "--subject" => subject = value,
            "--fps" => fps = Some(value.parse().map_err(|error| format!("--fps {value}: {error}"))?),
            _ => return Err(format!("{name} is not known\n{USAGE}").into()),
        }
    }
    smol::block_on(async {
        match &*command {
            "publish" => {
                let count = publish::publish(&server, &subject, &mut Source::open(&place).await?, fps).await?;
                eprintln!("{count} frames published");
            }
            "play" => {
                let mut target = play::create(&place)?;
                let (client, mut video) = play::tune_in(&server, &subject).await?;
                eprintln!("subscribed to {subject}");
                eprintln!("{}", play::play(&mut video, &mut target).await?);
                client.close().await?;
            }
            _ => return Err(format!("{command} is not known\n{USAGE}").into()),
        }
        Ok(())
    })
}
