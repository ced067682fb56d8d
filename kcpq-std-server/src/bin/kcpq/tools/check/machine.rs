//! What the operating system gives.

use std::net::Ipv4Addr;

use kcpq_udp::{Granted, LISTENING_BUFFER, Socket};

use super::{Finding, figures};

const WHAT: &str = "socket buffers";

/// The buffers that a server's socket gets, beside those that it asks for.
pub(super) fn buffers() -> Finding {
    match Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).and_then(|socket| socket.granted()) {
        Ok(granted) => judge(granted),
        Err(error) => Finding::broken(WHAT, format!("no UDP socket can be opened: {error}"), &[]),
    }
}

fn judge(Granted { receive, send, .. }: Granted) -> Finding {
    let [receive_shown, send_shown, asked] =
        [receive, send, LISTENING_BUFFER].map(|bytes| figures::bytes(Some(bytes as f64)));
    let text = format!("{receive_shown} for receiving and {send_shown} for sending, of {asked} that a server asks for");
    if receive.min(send) >= LISTENING_BUFFER {
        return Finding::well(WHAT, text);
    }
    let linux = format!("sysctl -w net.core.rmem_max={LISTENING_BUFFER} net.core.wmem_max={LISTENING_BUFFER}");
    let keep = format!(
        "to keep it: printf 'net.core.rmem_max={LISTENING_BUFFER}\\nnet.core.wmem_max={LISTENING_BUFFER}\\n' \
         >/etc/sysctl.d/90-kcpq.conf"
    );
    let advice: &[&str] = if cfg!(target_os = "linux") {
        &["bursts of many clients may be lost and sent again; as root:", &linux, &keep]
    } else if cfg!(target_os = "macos") {
        &["bursts of many clients may be lost and sent again; see sysctl kern.ipc.maxsockbuf"]
    } else {
        &["bursts of many clients may be lost and sent again"]
    };
    Finding::warning(WHAT, text, advice)
}

#[cfg(test)]
mod tests {
    use super::super::Grade;
    use super::*;

    #[test]
    fn who_gets_less_than_was_asked_for_is_told_how_to_get_it() {
        let socket = Socket::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let granted = |receive, send| {
            let mut granted = socket.granted().unwrap();
            (granted.receive, granted.send) = (receive, send);
            granted
        };
        assert_eq!(judge(granted(LISTENING_BUFFER, 2 * LISTENING_BUFFER)).grade, Grade::Well);
        let finding = judge(granted(212_992, LISTENING_BUFFER));
        assert_eq!(finding.grade, Grade::Warning);
        if cfg!(target_os = "linux") {
            assert!(finding.advice[1].contains("net.core.rmem_max=8388608"), "{finding:?}");
        }
    }
}
