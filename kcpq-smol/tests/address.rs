//! How the address of a server may be written.

use std::net::SocketAddr;

use kcpq_smol::{Address, AddressError, Client, ConnectError, DEFAULT_PORT};

fn resolve(address: &Address) -> Vec<SocketAddr> {
    smol::block_on(address.resolve()).unwrap()
}

#[test]
fn the_port_and_the_scheme_may_be_left_out() {
    assert_eq!(DEFAULT_PORT, 4000);
    for (text, addr) in [
        ("127.0.0.1", "127.0.0.1:4000"),
        ("127.0.0.1:4001", "127.0.0.1:4001"),
        ("kcpq://127.0.0.1", "127.0.0.1:4000"),
        ("kcpq://127.0.0.1:4001", "127.0.0.1:4001"),
        ("KCPQ://127.0.0.1:4001/", "127.0.0.1:4001"),
        // Without brackets all colons are the address's.
        ("::1", "[::1]:4000"),
        ("[::1]", "[::1]:4000"),
        ("[::1]:4001", "[::1]:4001"),
        ("kcpq://[::1]:4001", "[::1]:4001"),
    ] {
        let addr: SocketAddr = addr.parse().unwrap();
        assert_eq!(resolve(&Address::from(text)), [addr], "{text}");
        assert_eq!(text.parse(), Ok(Address::Socket(addr)), "{text}");
    }
}

#[test]
fn a_name_is_looked_up_and_has_the_same_default() {
    for (text, port) in [("localhost", 4000), ("localhost:4001", 4001), ("kcpq://localhost/", 4000)] {
        let parsed: Address = text.parse().unwrap();
        assert_eq!(parsed.to_string(), format!("localhost:{port}"));
        for address in [parsed, Address::from(text)] {
            let found = resolve(&address);
            assert!(!found.is_empty());
            assert!(found.iter().all(|addr| addr.ip().is_loopback() && addr.port() == port), "{text}: {found:?}");
        }
    }
}

#[test]
fn an_ipv6_address_may_name_its_interface() {
    for (text, shown) in [("fe80::1%eth0", "[fe80::1%eth0]:4000"), ("[fe80::1%2]:4001", "[fe80::1%2]:4001")] {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        assert_eq!(shown.parse::<Address>().unwrap().to_string(), shown);
    }
}

#[test]
fn what_is_no_address_is_told_apart() {
    for (text, error) in [
        ("", AddressError::Host),
        ("4000", AddressError::Number),
        ("4000:4000", AddressError::Number),
        (":4000", AddressError::Host),
        ("kcpq://", AddressError::Host),
        ("two words", AddressError::Host),
        ("host/path", AddressError::Host),
        ("[::1", AddressError::Host),
        ("[::1]4000", AddressError::Host),
        ("[localhost]:4000", AddressError::Host),
        ("a:b:c", AddressError::Host),
        ("host:", AddressError::Port),
        ("host:nats", AddressError::Port),
        ("host:65536", AddressError::Port),
        ("host:+1", AddressError::Port),
        ("nats://host:4222", AddressError::Scheme),
    ] {
        assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        let refused = smol::block_on(Client::connect(text)).unwrap_err();
        let ConnectError::Resolve { addr, source } = &refused else { panic!("{text}: {refused}") };
        assert_eq!((addr.as_str(), source.kind()), (text, std::io::ErrorKind::InvalidInput));
        assert_eq!(refused.to_string(), format!("cannot resolve '{text}': {error}"));
    }
}
