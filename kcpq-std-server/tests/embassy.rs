//! The client for microcontrollers against the server over UDP on loopback, with a transport of the standard library's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::OnceLock;
use std::time::Instant as StdInstant;

use async_io::Async;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use futures_lite::future::{block_on, or, zip};
use kcpq_embassy::{Config, Instant, Resources, Timer, Transport};
use kcpq_std_server::Server;
use static_cell::ConstStaticCell;

type Memory = Resources<'static, NoopRawMutex, 512, 4, 1024, 1024, 4>;

fn now() -> Instant {
    static EPOCH: OnceLock<StdInstant> = OnceLock::new();
    Instant::from_micros(EPOCH.get_or_init(StdInstant::now).elapsed().as_micros() as u64)
}

struct Udp {
    socket: Async<UdpSocket>,
    server: SocketAddr,
}

impl Udp {
    fn connect(server: SocketAddr) -> io::Result<Self> {
        let socket = Async::<UdpSocket>::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.get_ref().connect(server)?;
        Ok(Self { socket, server })
    }
}

impl Transport for Udp {
    type Error = io::Error;

    async fn send(&mut self, datagram: &[u8]) -> io::Result<()> {
        self.socket.send(datagram).await.map(drop)
    }

    async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(buffer).await
    }

    async fn renew(&mut self) -> io::Result<()> {
        *self = Self::connect(self.server)?;
        Ok(())
    }
}

struct Clock;

impl Timer for Clock {
    async fn wait_until(&mut self, at: Instant) {
        async_io::Timer::after(at.since(now()).into()).await;
    }
}

#[test]
fn messages_come_back_from_the_real_server_once_and_in_order() {
    const COUNT: u32 = 500;
    static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::bind(kcpq_std_server::Config { listen, ..kcpq_std_server::Config::default() }).unwrap();
    let (client, mut runner) = MEMORY.take().split(&Config::default(), now, 7);
    let mut udp = Udp::connect(server.local_addr()).unwrap();
    block_on(or(
        async {
            runner.run(&mut udp, &mut Clock).await;
            panic!("the client has closed");
        },
        async {
            let mut subscription = client.subscribe("a.*").await.unwrap();
            let publish = async {
                for n in 0..COUNT {
                    client.publish("a.b", &n.to_be_bytes()).await.unwrap();
                }
                client.flush().await.unwrap();
            };
            let receive = async {
                for n in 0..COUNT {
                    let same = subscription.next(|message| message.payload() == n.to_be_bytes()).await.unwrap();
                    assert!(same, "message {n}");
                }
            };
            zip(publish, receive).await;
        },
    ));
    server.shutdown();
}
