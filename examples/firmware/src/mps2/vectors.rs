//! Interrupt vectors of mps2-an385, in place of a PAC crate.

unsafe extern "C" {
    fn TIMER0();
    fn TIMER1();
    fn ETHERNET();
    fn DefaultHandler();
}

#[derive(Clone, Copy)]
#[repr(u16)]
pub enum Irq {
    Timer0 = 8,
    Timer1 = 9,
    Ethernet = 13,
}

unsafe impl cortex_m::interrupt::InterruptNumber for Irq {
    fn number(self) -> u16 {
        self as u16
    }
}

#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
pub static __INTERRUPTS: [unsafe extern "C" fn(); 32] = {
    let mut t: [unsafe extern "C" fn(); 32] = [DefaultHandler; 32];
    t[Irq::Timer0 as usize] = TIMER0;
    t[Irq::Timer1 as usize] = TIMER1;
    t[Irq::Ethernet as usize] = ETHERNET;
    t
};
