//! Where a server may listen: for others than this machine only with keys, or if it is said that it is open.

use std::net::SocketAddr;

use kcpq_std_server::access::Access;

/// Refuses an address that others can reach, if there is nothing that keeps anybody out and nobody has said that this is
/// meant. `keys`: nobody gets in without one.
///
/// # Errors
/// A line for people, which says how.
pub(super) fn check(addr: SocketAddr, keys: bool, open: bool) -> Result<(), String> {
    if keys || open || is_local(addr) {
        return Ok(());
    }
    Err(format!(
        "refused to listen on {addr}, which other machines can reach, without a key: give --key FILE (`kcpq key new FILE` \
         makes it), or say --open to let everybody in"
    ))
}

/// Refuses an address that others can reach for HTTP, unless somebody has said that this is meant: nobody has to prove
/// anything there.
///
/// # Errors
/// A line for people, which says how.
pub(super) fn check_http(addr: SocketAddr, open: bool) -> Result<(), String> {
    if open || is_local(addr) {
        return Ok(());
    }
    Err(format!(
        "refused to show sessions over HTTP on {addr}, which other machines can reach: give a port alone for this machine, or \
         say --http-open to show everybody"
    ))
}

/// Refuses WebSockets where there is no HTTP, and where somebody can come by them who proves nothing and could not come
/// otherwise, unless it is said that this is meant. `cipher`: all others need the key of the original's.
///
/// # Errors
/// A line for people, which says how.
pub(super) fn check_ws(
    http: Option<SocketAddr>,
    access: Option<&Access>,
    cipher: bool,
    open: bool,
) -> Result<(), String> {
    let Some(addr) = http else { return Err("WebSockets (--http-ws) need an address: give --http ADDR".into()) };
    if cipher && !open {
        return Err(
            "refused to take WebSockets beside the original's cipher (--aes256-key-file): who comes by one needs no \
                    key; say --open if that is meant"
                .into(),
        );
    }
    if open || is_local(addr) || access.is_some_and(|access| access.anonymous.is_none()) {
        return Ok(());
    }
    Err(format!(
        "refused to take WebSockets on {addr}, which other machines can reach, from clients that prove nothing: give rules that \
         keep them out ([anonymous] in the configuration), or say --open to let everybody in"
    ))
}

/// True if nobody is let in from other machines who proves nothing.
pub(super) fn needs_keys(access: &Access) -> bool {
    access.anonymous.is_none() && access.original.is_none()
}

/// True if only this machine can reach an address.
pub(crate) fn is_local(addr: SocketAddr) -> bool {
    addr.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_can_reach_needs_a_key_or_a_word() {
        for (addr, local) in [
            ("127.0.0.1:4000", true),
            ("127.3.2.1:0", true),
            ("[::1]:4000", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:4000", false),
            ("[::]:4000", false),
            ("192.0.2.1:4000", false),
            ("[fe80::1]:4000", false),
        ] {
            let addr = addr.parse().unwrap();
            assert_eq!(check(addr, false, false).is_ok(), local, "{addr}");
            assert_eq!(check_http(addr, false).is_ok(), local, "{addr}");
            assert!(check_http(addr, true).is_ok());
            assert!(check(addr, true, false).is_ok() && check(addr, false, true).is_ok());
        }
        let (here, there) = ("127.0.0.1:1".parse().unwrap(), "192.0.2.1:1".parse().unwrap());
        assert!(check_ws(None, None, false, true).unwrap_err().contains("--http ADDR"));
        assert!(check_ws(Some(there), None, false, false).is_err() && check_ws(Some(there), None, false, true).is_ok());
        assert!(check_ws(Some(here), None, false, false).is_ok());
        assert!(check_ws(Some(here), None, true, false).is_err() && check_ws(Some(here), None, true, true).is_ok());
        assert!(check_ws(Some(there), Some(&Access::default()), false, false).is_ok());
        assert!(check_ws(Some(there), Some(&Access::open()), false, false).is_err());
        assert!(needs_keys(&Access::default()) && !needs_keys(&Access::open()));
        assert!(needs_keys(&Access { original_with_key: Some(0), ..Access::default() }));
        assert!(!needs_keys(&Access { original: Some(0), ..Access::default() }));
        assert!(needs_keys(&Access { local: Some(0), sealed: Some(0), ..Access::default() }));
    }
}
