//! Arguments from `-semihosting-config ...,arg=...`, so that one ELF serves many tests.

pub struct Args {
    buf: [u8; 256],
    len: usize,
}

impl Args {
    pub fn read() -> Self {
        #[repr(C)]
        struct Block {
            ptr: *mut u8,
            len: usize,
        }
        let mut a = Args { buf: [0; 256], len: 0 };
        let mut b = Block { ptr: a.buf.as_mut_ptr(), len: a.buf.len() };
        use cortex_m_semihosting::{nr::GET_CMDLINE, syscall1};
        if unsafe { syscall1(GET_CMDLINE, &raw mut b as usize) } == 0 {
            a.len = b.len.min(255);
        }
        a
    }
    pub fn raw(&self) -> &str {
        core::str::from_utf8(&self.buf[..self.len]).unwrap_or("").trim_end_matches('\0')
    }
    /// The value of `key=value`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.raw().split(' ').find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
    }
    pub fn num(&self, key: &str, default: u32) -> u32 {
        self.get(key).and_then(|v| v.parse().ok()).unwrap_or(default)
    }
}
