//! CPU time and memory of a process, and the system's UDP counters. Linux tells; elsewhere there is nothing to tell.

use std::fs;
use std::path::Path;

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// Seconds of CPU, user's and system's.
    pub(super) cpu: f64,
    /// Resident memory in bytes: now, and at most so far.
    pub(super) memory: u64,
    pub(super) peak: u64,
}

/// The usage of the process `pid`, or of this one.
pub(super) fn usage(pid: Option<u32>) -> Option<Usage> {
    let folder = pid.map_or_else(|| "/proc/self".into(), |pid| format!("/proc/{pid}"));
    let folder = Path::new(&folder);
    let status = fs::read_to_string(folder.join("status")).ok()?;
    Some(Usage {
        cpu: parse_ticks(&fs::read_to_string(folder.join("stat")).ok()?)? as f64 / TICKS,
        memory: parse_kilobytes(&status, "VmRSS:")?,
        peak: parse_kilobytes(&status, "VmHWM:")?,
    })
}

/// Descriptors that the process `pid`, or this one, has open.
pub(super) fn descriptors(pid: Option<u32>) -> Option<u64> {
    let folder = pid.map_or_else(|| "/proc/self/fd".into(), |pid| format!("/proc/{pid}/fd"));
    Some(fs::read_dir(folder).ok()?.count() as u64)
}

/// Linux counts CPU time for programs in hundredths of a second (USER_HZ), whatever the kernel's own tick is.
const TICKS: f64 = 100.0;

/// utime and stime: fields 14 and 15 of proc_pid_stat(5), where field 2 is a name in parentheses with anything in it.
fn parse_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

fn parse_kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Datagrams that the system threw away since it started because a socket's receive buffer was full, all sockets of
/// the machine together.
pub(super) fn receive_buffer_errors() -> Option<u64> {
    parse_column(&fs::read_to_string("/proc/net/snmp").ok()?, "Udp:", "RcvbufErrors")
}

/// A value of /proc/net/snmp: for each protocol a line of names, and one of values.
fn parse_column(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol));
    let column = lines.next()?.split_ascii_whitespace().position(|found| found == name)?;
    lines.next()?.split_ascii_whitespace().nth(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a) b) R 1 7 7 0 -1 4194560 100 0 0 0 123 77 0 0 20 0 3 0 1 2 3";
        assert_eq!(parse_ticks(stat), Some(200));
        assert_eq!(parse_ticks("7 (a"), None);
        assert_eq!(parse_ticks("7 (a) R 1"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(parse_kilobytes("Name:\tx\nVmHWM:\t     100 kB\nVmRSS:\t      8 kB\n", "VmRSS:"), Some(8 << 10));
        assert_eq!(parse_kilobytes("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn a_counter_is_found_by_its_name() {
        let text =
            "Ip: Forwarding\nIp: 1\nUdp: InDatagrams RcvbufErrors\nUdp: 10 3\nUdpLite: InDatagrams\nUdpLite: 0\n";
        assert_eq!(parse_column(text, "Udp:", "RcvbufErrors"), Some(3));
        assert_eq!(parse_column(text, "Udp:", "Nothing"), None);
    }
}
