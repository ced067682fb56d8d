//! A server that has a name: two stacks of embassy-net, with a cable between them. At the far end a name server says what the
//! test wants it to say.

use std::cell::{Cell, RefCell};
use std::pin::pin;

use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{Config, IpAddress, IpEndpoint, Ipv4Address, Ipv4Cidr, Stack, StackResources, StaticConfigV4};
use embassy_net_driver_channel::driver::{HardwareAddress, LinkState};
use embassy_net_driver_channel::{Device, Runner, RxRunner, State, TxRunner, new};
use embassy_time::{Duration, with_timeout};
use futures_lite::future::{block_on, or, zip};
use kcpq_embassy::Transport;
use kcpq_embassy::named::{NameError, NamedUdp};

const MTU: usize = 1514;
const NAME_SERVER: Ipv4Address = Ipv4Address::new(10, 0, 0, 2);
/// What the name server says: nothing at all, that there is no such name, or these addresses.
type Answer = RefCell<Option<Vec<Ipv4Address>>>;

fn stack(
    number: u8,
    device: Device<'static, MTU>,
) -> (Stack<'static>, embassy_net::Runner<'static, Device<'static, MTU>>) {
    let config = Config::ipv4_static(StaticConfigV4 {
        address: Ipv4Cidr::new(Ipv4Address::new(10, 0, 0, number), 24),
        gateway: None,
        dns_servers: [NAME_SERVER].into_iter().collect(),
    });
    let resources = Box::leak(Box::new(StackResources::<4>::new()));
    embassy_net::new(device, config, resources, u64::from(number))
}

fn device(number: u8) -> (Runner<'static, MTU>, Device<'static, MTU>) {
    let state = Box::leak(Box::new(State::<MTU, 4, 4>::new()));
    new(state, HardwareAddress::Ethernet([2, 0, 0, 0, 0, number]))
}

fn socket(stack: Stack<'static>) -> UdpSocket<'static> {
    let meta = || Box::leak(Box::new([PacketMetadata::EMPTY; 8]));
    let bytes = || Box::leak(Box::new([0; 4096]));
    UdpSocket::new(stack, meta(), bytes(), meta(), bytes())
}

async fn cable(mut from: TxRunner<'static, MTU>, mut to: RxRunner<'static, MTU>) {
    loop {
        let frame = from.tx_buf().await;
        let room = to.rx_buf().await;
        room[..frame.len()].copy_from_slice(frame);
        to.rx_done(frame.len());
        from.tx_done();
    }
}

/// Answers questions for addresses (RFC 1035, 4) by `answer`, and counts them.
async fn name_server(stack: Stack<'static>, answer: &Answer, questions: &Cell<u32>) {
    let mut socket = socket(stack);
    socket.bind(53).unwrap();
    let mut buffer = [0; 512];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
        questions.set(questions.get() + 1);
        let Some(addresses) = answer.borrow().clone() else { continue };
        // The same identifier and question; a reply, recursion available, perhaps "no such name".
        let mut reply = buffer[..len].to_vec();
        reply[2..4].copy_from_slice(&[0x81, if addresses.is_empty() { 0x83 } else { 0x80 }]);
        reply[6..8].copy_from_slice(&(addresses.len() as u16).to_be_bytes());
        for address in addresses {
            // Name: that of the question. Type A, class IN, a minute, 4 bytes.
            reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            reply.extend(address.octets());
        }
        socket.send_to(&reply, from.endpoint).await.unwrap();
    }
}

/// Runs `test` with the near stack and the far one, while `answer` is what the name server says.
fn with_network(answer: &Answer, questions: &Cell<u32>, test: impl AsyncFnOnce(Stack<'static>, Stack<'static>)) {
    let ((near_cable, near), (far_cable, far)) = (device(1), device(2));
    let ((near, mut near_runner), (far, mut far_runner)) = (stack(1, near), stack(2, far));
    let ((near_state, near_rx, near_tx), (far_state, far_rx, far_tx)) = (near_cable.split(), far_cable.split());
    near_state.set_link_state(LinkState::Up);
    far_state.set_link_state(LinkState::Up);
    let network = zip(zip(near_runner.run(), far_runner.run()), zip(cable(near_tx, far_rx), cable(far_tx, near_rx)));
    let world = zip(network, name_server(far, answer, questions));
    let (world, test) = (
        pin!(async {
            world.await;
            unreachable!("networks run for ever")
        }),
        pin!(test(near, far)),
    );
    let limited = async { with_timeout(Duration::from_secs(60), test).await.expect("it takes no minute") };
    block_on(or(limited, world));
}

fn at(last: u8) -> IpEndpoint {
    IpEndpoint::new(IpAddress::v4(10, 0, 0, last), 4000)
}

fn says(addresses: &[u8]) -> Option<Vec<Ipv4Address>> {
    Some(addresses.iter().map(|last| Ipv4Address::new(10, 0, 0, *last)).collect())
}

#[test]
fn a_name_is_found_and_datagrams_go_there_and_back() {
    let (answer, questions) = (RefCell::new(says(&[2])), Cell::new(0));
    with_network(&answer, &questions, async |near, far| {
        let mut server = socket(far);
        server.bind(4000).unwrap();
        let mut transport = NamedUdp::new(near, socket(near), "kcpq.example", 4000).await.unwrap();
        assert_eq!(transport.server(), at(2));
        transport.send(b"there").await.unwrap();
        let mut buffer = [0; 64];
        let (len, from) = server.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"there");
        server.send_to(b"and back", from.endpoint).await.unwrap();
        let len = transport.receive(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], b"and back");
    });
    assert_eq!(questions.get(), 1);
}

#[test]
fn a_name_that_moves_is_followed_and_one_that_nobody_knows_now_is_tried_where_it_was() {
    let (answer, questions) = (RefCell::new(says(&[2])), Cell::new(0));
    with_network(&answer, &questions, async |near, _| {
        let mut transport = NamedUdp::new(near, socket(near), "kcpq.example", 4000).await.unwrap();
        *answer.borrow_mut() = says(&[7]);
        transport.renew().await.unwrap();
        assert_eq!(transport.server(), at(7));
        *answer.borrow_mut() = says(&[]);
        transport.renew().await.unwrap();
        assert_eq!(transport.server(), at(7));
        // No name server is heard: the client goes on soon.
        *answer.borrow_mut() = None;
        transport.renew().await.unwrap();
        assert_eq!(transport.server(), at(7));
        *answer.borrow_mut() = says(&[2]);
        transport.renew().await.unwrap();
        assert_eq!(transport.server(), at(2));
    });
}

#[test]
fn it_waits_for_a_name_that_is_not_known_yet() {
    let (answer, questions) = (RefCell::new(says(&[])), Cell::new(0));
    with_network(&answer, &questions, async |near, _| {
        let told = async {
            while questions.get() < 2 {
                futures_lite::future::yield_now().await;
            }
            *answer.borrow_mut() = says(&[2]);
        };
        let (transport, ()) = zip(NamedUdp::new(near, socket(near), "kcpq.example", 4000), told).await;
        assert_eq!(transport.unwrap().server(), at(2));
    });
}

#[test]
fn an_address_needs_no_name_server_and_what_no_host_can_be_called_is_an_error() {
    let (answer, questions) = (RefCell::new(None), Cell::new(0));
    with_network(&answer, &questions, async |near, _| {
        let transport = NamedUdp::new(near, socket(near), "10.0.0.9", 4000).await.unwrap();
        assert_eq!(transport.server(), at(9));
        let long = "a".repeat(64);
        for name in ["", "two..dots", &long] {
            let failed = NamedUdp::new(near, socket(near), name, 4000).await;
            assert_eq!(failed.err(), Some(NameError::Name), "{name:?}");
        }
    });
    assert_eq!(questions.get(), 0);
}
