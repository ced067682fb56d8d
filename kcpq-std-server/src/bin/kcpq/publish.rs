//! `kcpq pub`.

use std::io::Read;
use std::time::Duration;

use clap::Parser;

use super::{Failure, ServerArg};

/// The flags of `kcpq pub`.
#[derive(Debug, Parser)]
pub(super) struct Publish {
    #[command(flatten)]
    server: ServerArg,
    /// Subject to publish to
    subject: String,
    /// The message; if absent, it is read from standard input
    payload: Option<String>,
    /// Time to live: drop the message if it is still in a queue after this long
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
}

impl Publish {
    /// Publishes, and waits until the server has handled the message.
    pub(super) async fn run(self) -> Result<(), Failure> {
        let payload = match self.payload {
            Some(payload) => payload.into_bytes(),
            None => {
                let mut payload = Vec::new();
                std::io::stdin().lock().read_to_end(&mut payload)?;
                payload
            }
        };
        let client = self.server.connect("kcpq pub").await?;
        let done = async {
            let publish = client.publish(&self.subject, payload);
            match self.ttl {
                Some(ttl) => publish.ttl(ttl).await?,
                None => publish.await?,
            }
            client.flush().await?;
            Ok(())
        };
        let done = done.await;
        client.close().await?;
        done
    }
}
