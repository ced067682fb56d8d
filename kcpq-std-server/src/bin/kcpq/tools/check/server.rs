//! A server, as a client finds it: whether it answers, how far away it is, and what the path carries.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use async_io::Timer;
use futures_lite::future::or;
use kcpq_core::datagram::SAFE_DATAGRAM;
use kcpq_core::hello::CloseReason;
use kcpq_smol::{Client, ConnectError, Disconnect};
use smol::net::UdpSocket;

use super::{Finding, ServerArg, millis};
use crate::Failure;

const WHAT: &str = "server";
/// Round trips that are measured, and the time between them: long enough for the path's length to be found out.
const PINGS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// How long is waited for a complaint of the server's machine.
const COMPLAINT: Duration = Duration::from_millis(700);

/// See above.
pub(super) async fn look(arg: &ServerArg) -> Vec<Finding> {
    let builder = match (arg.builder("kcpq check"), arg.first()) {
        (Ok(builder), Ok(first)) => (builder, first),
        (Err(Failure::Error(why) | Failure::Timeout(why)), _)
        | (_, Err(Failure::Error(why) | Failure::Timeout(why))) => {
            return vec![Finding::broken(WHAT, why, &[])];
        }
    };
    match builder.0.connect(builder.1).await {
        Ok(client) => {
            let findings = path(&client).await;
            // What was found stands, whatever the server says at the end.
            let _ = client.close().await;
            findings
        }
        Err(error) => vec![why_not(arg, &error).await],
    }
}

async fn path(client: &Client) -> Vec<Finding> {
    let kind = if client.is_native() { "native" } else { "original" };
    let mut findings = vec![Finding::well(WHAT, format!("{} answers, {kind} protocol", client.server()))];
    let mut took = Vec::new();
    for _ in 0..PINGS {
        if let Ok(span) = client.ping().await {
            took.push(span);
        }
        Timer::after(PAUSE).await;
    }
    let stats = client.stats();
    let (sent, again) = (stats.transport.segments_sent, stats.transport.retransmitted);
    findings.push(match (took.iter().min(), took.iter().max()) {
        (Some(min), Some(max)) => {
            let text = format!("{} to {}; {again} of {sent} segments had to be sent again", millis(*min), millis(*max));
            if again * 10 > sent {
                Finding::warning(
                    "round trip",
                    text,
                    &["the link loses much: see `kcpq ping` for longer, and --redundancy"],
                )
            } else {
                Finding::well("round trip", text)
            }
        }
        _ => Finding::broken(
            "round trip",
            "it answered once, and not again",
            &["something on the path stops what goes on: a firewall with a short memory, or the link"],
        ),
    });
    if client.is_native() {
        let longest = stats.max_datagram;
        let text = format!("datagrams of up to {longest} bytes come through");
        findings.push(if longest < usize::from(SAFE_DATAGRAM) {
            Finding::warning(
                "path",
                text,
                &["some link on the path is narrow, as tunnels are: more datagrams for the same"],
            )
        } else {
            Finding::well("path", text)
        });
    }
    findings
}

async fn why_not(arg: &ServerArg, error: &ConnectError) -> Finding {
    let text = error.to_string();
    let keys = match error {
        ConnectError::Unanswered { .. } => {
            "the server does not answer whom it does not know: `kcpq key public` shows what to compare"
        }
        _ => "a server with keys does not answer strangers: give --server-key, --secret-file or --aes256-key-file",
    };
    match error {
        ConnectError::TimedOut { .. } | ConnectError::Unanswered { .. } => match knock(arg).await {
            Some(Answer::Refused(addr)) => Finding::broken(
                WHAT,
                format!("nobody listens at {addr}; its machine says so"),
                &[
                    "start it there (`kcpq serve`), or see to the port; without --listen it listens to its own machine alone",
                ],
            ),
            Some(Answer::Unreachable(addr, why)) => Finding::broken(
                WHAT,
                format!("there is no way to {addr}: {why}"),
                &["see to addresses and routes of this machine (`ip route get ADDRESS`)"],
            ),
            None => Finding::broken(
                WHAT,
                format!("sent, and nothing heard: {text}"),
                &[
                    "a firewall may drop UDP, on this machine, the server's or between: open its port for UDP, both ways",
                    keys,
                    "or its machine is off, or it is another one",
                ],
            ),
        },
        ConnectError::Resolve { .. } => Finding::broken(WHAT, text, &["see to the name, or give an address"]),
        ConnectError::Failed(Disconnect::ByServer(CloseReason::Denied)) => {
            Finding::broken(WHAT, text, &["it is there and lets this client not in: see its permissions, and keys"])
        }
        _ => Finding::broken(WHAT, text, &[]),
    }
}

/// What comes back when there is no server.
enum Answer {
    Refused(SocketAddr),
    Unreachable(SocketAddr, String),
}

/// Sends a byte, which is no datagram of any protocol here, and hears what the other machine, or this one, says to
/// that.
async fn knock(arg: &ServerArg) -> Option<Answer> {
    for server in &arg.server {
        for addr in server.resolve().await.unwrap_or_default() {
            match or(answer(addr), async {
                Timer::after(COMPLAINT).await;
                None
            })
            .await
            {
                None => {}
                found => return found,
            }
        }
    }
    None
}

async fn answer(addr: SocketAddr) -> Option<Answer> {
    let any = if addr.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let talk = async {
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        socket.connect(addr).await?;
        socket.send(&[0]).await?;
        socket.recv(&mut [0; 64]).await
    };
    match talk.await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Some(Answer::Refused(addr)),
        Err(error) => Some(Answer::Unreachable(addr, error.to_string())),
        Ok(_) => None,
    }
}
