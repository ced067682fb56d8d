//! LAN9118 in PIO mode behind `embassy_net_driver::Driver`, receive by interrupt.

use super::vectors::Irq;
use core::task::Context;
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState};
use embassy_sync::waitqueue::AtomicWaker;
use static_cell::ConstStaticCell;

const BASE: usize = 0x4020_0000;
const RX_DATA: usize = 0x00;
const TX_DATA: usize = 0x20;
const RX_STATUS: usize = 0x40;
const ID_REV: usize = 0x50;
const IRQ_CFG: usize = 0x54;
const INT_STS: usize = 0x58;
const INT_EN: usize = 0x5c;
const BYTE_TEST: usize = 0x64;
const FIFO_INT: usize = 0x68;
const RX_CFG: usize = 0x6c;
const TX_CFG: usize = 0x70;
const HW_CFG: usize = 0x74;
const RX_DP_CTRL: usize = 0x78;
const RX_FIFO_INF: usize = 0x7c;
const TX_FIFO_INF: usize = 0x80;
const MAC_CSR_CMD: usize = 0xa4;
const MAC_CSR_DATA: usize = 0xa8;
const AFC_CFG: usize = 0xac;
// MAC registers, reached through MAC_CSR_CMD/DATA
const MAC_CR: u32 = 1;
const MAC_ADDRH: u32 = 2;
const MAC_ADDRL: u32 = 3;
const MAC_MII_ACC: u32 = 6;
const MAC_MII_DATA: u32 = 7;
const RSFL: u32 = 1 << 3; // RX status FIFO above its level

pub const FRAME: usize = 1514;
const WORDS: usize = (FRAME + 4).div_ceil(4);
type Buf = [u32; WORDS];

static RX_WAKER: AtomicWaker = AtomicWaker::new();

fn rd(reg: usize) -> u32 {
    unsafe { ((BASE + reg) as *const u32).read_volatile() }
}
fn wr(reg: usize, v: u32) {
    unsafe { ((BASE + reg) as *mut u32).write_volatile(v) }
}
fn mac_wait() {
    while rd(MAC_CSR_CMD) & 0x8000_0000 != 0 {}
}
fn mac_rd(reg: u32) -> u32 {
    mac_wait();
    wr(MAC_CSR_CMD, 0xc000_0000 | reg); // busy | read
    mac_wait();
    rd(MAC_CSR_DATA)
}
fn mac_wr(reg: u32, v: u32) {
    mac_wait();
    wr(MAC_CSR_DATA, v);
    wr(MAC_CSR_CMD, 0x8000_0000 | reg);
    mac_wait();
}
fn phy_wait() {
    while mac_rd(MAC_MII_ACC) & 1 != 0 {}
}
fn phy_rd(reg: u32) -> u32 {
    phy_wait();
    mac_wr(MAC_MII_ACC, (1 << 11) | (reg << 6) | 1);
    phy_wait();
    mac_rd(MAC_MII_DATA) & 0xffff
}
fn phy_wr(reg: u32, v: u32) {
    phy_wait();
    mac_wr(MAC_MII_DATA, v);
    mac_wr(MAC_MII_ACC, (1 << 11) | (reg << 6) | 2 | 1);
    phy_wait();
}

#[unsafe(no_mangle)]
extern "C" fn ETHERNET() {
    // One-shot: receive() enables RSFL again when it next finds the FIFO empty.
    wr(INT_EN, 0);
    wr(INT_STS, 0xffff_ffff);
    RX_WAKER.wake();
}

pub struct Lan9118 {
    mac: [u8; 6],
    rx: &'static mut Buf,
    tx: &'static mut Buf,
}

#[derive(Debug, Clone, Copy)]
pub enum InitError {
    NotFound(u32),
    Reset,
}

impl Lan9118 {
    /// Panics when called a second time.
    pub fn new() -> Result<Self, InitError> {
        if rd(BYTE_TEST) != 0x8765_4321 {
            return Err(InitError::NotFound(rd(BYTE_TEST)));
        }
        let id = rd(ID_REV);
        if !matches!(id >> 16, 0x0118 | 0x9220) {
            return Err(InitError::NotFound(id));
        }
        wr(HW_CFG, 1); // soft reset
        let mut n = 0;
        while rd(HW_CFG) & 1 != 0 {
            n += 1;
            if n > 1_000_000 {
                return Err(InitError::Reset);
            }
        }
        wr(HW_CFG, 0x0015_0000); // 5 KiB TX FIFO, must-be-one bit 20
        wr(AFC_CFG, 0x006e_3740);
        // reset has loaded the MAC address from the EEPROM
        let (lo, hi) = (mac_rd(MAC_ADDRL).to_le_bytes(), mac_rd(MAC_ADDRH).to_le_bytes());
        let mac = [lo[0], lo[1], lo[2], lo[3], hi[0], hi[1]];
        phy_wr(4, 0x01e1); // advertise 10/100, half/full
        phy_wr(0, 0x1200); // start auto-negotiation
        wr(INT_EN, 0);
        wr(INT_STS, 0xffff_ffff);
        wr(IRQ_CFG, 0x100 | 0x10 | 0x1); // enabled, active high, push-pull
        wr(FIFO_INT, 0x4800_0000); // RX status level 0: any frame
        wr(RX_CFG, 0);
        wr(TX_CFG, 0x2 | 0x4); // on; status overrun allowed (TX status is never read)
        mac_wr(MAC_CR, 0x0010_0000 | 0x8 | 0x4); // full duplex, TX, RX; own address + broadcast
        // Until IRQ_CFG was written the line was active low, so an edge is latched.
        cortex_m::peripheral::NVIC::unpend(Irq::Ethernet);
        unsafe { cortex_m::peripheral::NVIC::unmask(Irq::Ethernet) };
        // Statics, not fields: the driver is moved into a task, and a buffer held by
        // value costs stack at every move and is in the task's future twice.
        static RX: ConstStaticCell<Buf> = ConstStaticCell::new([0; WORDS]);
        static TX: ConstStaticCell<Buf> = ConstStaticCell::new([0; WORDS]);
        Ok(Self { mac, rx: RX.take(), tx: TX.take() })
    }

    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn rx_pending() -> bool {
        (rd(RX_FIFO_INF) >> 16) & 0xff != 0
    }
}

pub struct Rx<'a>(&'a mut Buf, usize);
pub struct Tx<'a>(&'a mut Buf);

fn as_bytes(w: &mut Buf) -> &mut [u8] {
    unsafe { core::slice::from_raw_parts_mut(w.as_mut_ptr() as *mut u8, WORDS * 4) }
}

impl embassy_net_driver::RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        f(&mut as_bytes(self.0)[..self.1])
    }
}

impl embassy_net_driver::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let r = f(&mut as_bytes(self.0)[..len]);
        wr(TX_DATA, 0x2000 | 0x1000 | len as u32); // command A: first + last segment
        wr(TX_DATA, (1 << 16) | len as u32); // command B: tag, packet length
        for x in &self.0[..len.div_ceil(4)] {
            wr(TX_DATA, *x);
        }
        r
    }
}

impl Driver for Lan9118 {
    type RxToken<'a> = Rx<'a>;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, cx: &mut Context) -> Option<(Rx<'_>, Tx<'_>)> {
        loop {
            if !Self::rx_pending() {
                RX_WAKER.register(cx.waker());
                wr(INT_EN, RSFL);
                // a frame may have come between the check and the enable
                if !Self::rx_pending() {
                    return None;
                }
                wr(INT_EN, 0);
            }
            let st = rd(RX_STATUS);
            let len = (st >> 16) as usize & 0x3fff; // with 4 bytes of FCS
            let words = len.div_ceil(4);
            if st & 0x8000 != 0 || len < 18 || words > WORDS {
                if words >= 4 {
                    wr(RX_DP_CTRL, 0x8000_0000); // fast-forward over the frame
                    while rd(RX_DP_CTRL) & 0x8000_0000 != 0 {}
                } else {
                    for _ in 0..words {
                        rd(RX_DATA);
                    }
                }
                continue;
            }
            for x in &mut self.rx[..words] {
                *x = rd(RX_DATA);
            }
            return Some((Rx(self.rx, len - 4), Tx(self.tx)));
        }
    }

    fn transmit(&mut self, cx: &mut Context) -> Option<Tx<'_>> {
        if (rd(TX_FIFO_INF) & 0xffff) as usize >= FRAME + 4 + 8 {
            Some(Tx(self.tx))
        } else {
            cx.waker().wake_by_ref(); // poll again; QEMU sends at once, so never seen there
            None
        }
    }

    fn link_state(&mut self, _: &mut Context) -> LinkState {
        if phy_rd(1) & 0x4 != 0 { LinkState::Up } else { LinkState::Down }
    }

    fn capabilities(&self) -> Capabilities {
        let mut c = Capabilities::default();
        c.max_transmission_unit = FRAME;
        c.max_burst_size = Some(1);
        c
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.mac)
    }
}
