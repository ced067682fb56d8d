//! A bad link for whole programs, TCP and UDP alike: two network namespaces, `near` and `far`, joined by a TUN device in
//! each and by this program between them, which does to packets what [`kcpq_core::sim::Link`] does to datagrams. The
//! simulator of the tests and this emulator are the same link, here in real time.
//!
//! ```sh
//! link --delay 15ms --loss 5 --far 'kcpq serve --open -l 10.77.0.2:4000' -- kcpq bench pubsub -s 10.77.0.2:4000 --rate 50
//! ```
//!
//! runs the server behind the link and the bench before it, and then tells what the link carried. Without a program it
//! says how to enter the namespaces, and takes commands from standard input until that ends:
//!
//! * `stats`: prints the counters since the last `reset`, one line of JSON;
//! * `reset`: begins to count anew, prints `{}`;
//! * `outage 2s`: loses everything for so long from now on, prints `{}`;
//! * `narrow 1300`: loses packets longer than that from now on, prints `{}`.
//!
//! Both namespaces belong to this process alone. They and all that runs in them end with it, however it ends.
//!
//! Needs Linux, root, `/dev/net/tun`, `ip` (iproute2), and `unshare`, `nsenter` and `setpriv` (util-linux). Where one is
//! missing it says so and exits with code 77, so that what wants to use it can skip itself. Exit code otherwise: the
//! program's, or 1.

#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
mod forwarder;
#[cfg(target_os = "linux")]
mod namespace;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod run;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("link: skipped: this needs Linux");
    std::process::ExitCode::from(77)
}
