//! What happened beside sockets' counters, as bytes and back: set limits, memory pressure,
//! written sysctls, samples of the host.

use bytes::BufMut;
use sockmem_common::{Header, LimitSet, Pressure, PressureCounts, SysctlWrite};

use super::varint::{Short, get_u64, put_u64};
use crate::facts::{HostSample, KERNEL_COUNTERS, NetCounters, Setting, SettingValue};

/// More of anything than this in one sample is damage.
const MOST: u64 = 1 << 16;

fn array(b: &mut &[u8]) -> Result<[u8; 16], Short> {
    let (bytes, rest) = b.split_first_chunk::<16>().ok_or(Short)?;
    *b = rest;
    Ok(*bytes)
}

fn put_all(out: &mut impl BufMut, values: impl IntoIterator<Item = u64>) {
    for v in values {
        put_u64(out, v);
    }
}

/// 0 for what is not known, else the value plus 1; the highest value is one less for it.
fn put_known(out: &mut impl BufMut, v: Option<u64>) {
    put_u64(out, v.map_or(0, |v| v.saturating_add(1)));
}

fn get_known(b: &mut &[u8]) -> Result<Option<u64>, Short> {
    Ok(get_u64(b)?.checked_sub(1))
}

fn get_count(b: &mut &[u8]) -> Result<u64, Short> {
    let n = get_u64(b)?;
    if n > MOST { Err(Short) } else { Ok(n) }
}

fn put_header(out: &mut impl BufMut, h: &Header) {
    put_all(
        out,
        [
            h.t_ns,
            h.id,
            h.kind.into(),
            h.hook.into(),
            h.reserved.into(),
            h.cpu.into(),
        ],
    );
}

fn get_header(b: &mut &[u8]) -> Result<Header, Short> {
    Ok(Header {
        t_ns: get_u64(b)?,
        id: get_u64(b)?,
        kind: get_u64(b)? as u8,
        hook: get_u64(b)? as u8,
        reserved: get_u64(b)? as u16,
        cpu: get_u64(b)? as u32,
    })
}

pub(super) fn put_limit(out: &mut impl BufMut, l: &LimitSet) {
    put_header(out, &l.header);
    put_all(
        out,
        [
            l.began_ns,
            u64::from(l.asked as u32),
            l.from.into(),
            l.to.into(),
            l.tgid.into(),
            l.what.into(),
            l.flags.into(),
            l.level.into(),
            l.optname.into(),
        ],
    );
    out.put_slice(&l.comm);
}

pub(super) fn get_limit(b: &mut &[u8]) -> Result<LimitSet, Short> {
    Ok(LimitSet {
        header: get_header(b)?,
        began_ns: get_u64(b)?,
        asked: get_u64(b)? as u32 as i32,
        from: get_u64(b)? as u32,
        to: get_u64(b)? as u32,
        tgid: get_u64(b)? as u32,
        what: get_u64(b)? as u8,
        flags: get_u64(b)? as u8,
        level: get_u64(b)? as u16,
        optname: get_u64(b)? as u32,
        comm: array(b)?,
    })
}

pub(super) fn put_pressure(out: &mut impl BufMut, p: &Pressure) {
    put_header(out, &p.header);
    put_all(out, [p.count, p.allocated]);
    put_all(out, p.limits);
    put_all(
        out,
        [
            p.rmem_alloc.into(),
            p.rcvbuf.into(),
            p.kind.into(),
            p.flags.into(),
            p.direction.into(),
        ],
    );
}

pub(super) fn get_pressure(b: &mut &[u8]) -> Result<Pressure, Short> {
    Ok(Pressure {
        header: get_header(b)?,
        count: get_u64(b)?,
        allocated: get_u64(b)?,
        limits: [get_u64(b)?, get_u64(b)?, get_u64(b)?],
        rmem_alloc: get_u64(b)? as u32,
        rcvbuf: get_u64(b)? as u32,
        kind: get_u64(b)? as u8,
        flags: get_u64(b)? as u8,
        direction: get_u64(b)? as u8,
        reserved: [0; 5],
    })
}

pub(super) fn put_sysctl(out: &mut impl BufMut, w: &SysctlWrite) {
    put_header(out, &w.header);
    out.put_slice(&w.name);
    out.put_slice(&w.comm);
    put_u64(out, w.netns.into());
}

pub(super) fn get_sysctl(b: &mut &[u8]) -> Result<SysctlWrite, Short> {
    Ok(SysctlWrite {
        header: get_header(b)?,
        name: array(b)?,
        comm: array(b)?,
        netns: get_u64(b)? as u32,
        reserved: 0,
    })
}

pub(super) fn put_host(out: &mut impl BufMut, s: &HostSample) {
    put_u64(out, s.at_ns);
    put_u64(out, s.settings.len() as u64);
    for v in &s.settings {
        let at = Setting::ALL.iter().position(|known| *known == v.setting);
        put_all(
            out,
            [
                at.unwrap_or(usize::MAX) as u64,
                v.netns.into(),
                v.values.len() as u64,
            ],
        );
        put_all(out, v.values.iter().copied());
    }
    put_u64(out, s.counters.len() as u64);
    for c in &s.counters {
        put_all(out, [c.netns.into(), c.values.len() as u64]);
        for v in c.values {
            put_known(out, v);
        }
    }
    put_known(out, s.tcp_pages);
    put_known(out, s.under_pressure.map(u64::from));
}

pub(super) fn get_host(b: &mut &[u8]) -> Result<HostSample, Short> {
    let mut s = HostSample {
        at_ns: get_u64(b)?,
        ..HostSample::default()
    };
    for _ in 0..get_count(b)? {
        let setting = usize::try_from(get_u64(b)?).ok();
        let setting = setting.and_then(|at| Setting::ALL.get(at).copied());
        let netns = get_u64(b)? as u32;
        let n = get_count(b)?;
        let values = (0..n).map(|_| get_u64(b)).collect::<Result<_, _>>()?;
        // One that this version does not know is passed over.
        s.settings.extend(setting.map(|setting| SettingValue {
            setting,
            netns,
            values,
        }));
    }
    for _ in 0..get_count(b)? {
        let netns = get_u64(b)? as u32;
        let mut values = [None; KERNEL_COUNTERS.len()];
        for at in 0..get_count(b)? {
            let value = get_known(b)?;
            // Later versions may know more.
            if let Some(v) = usize::try_from(at).ok().and_then(|at| values.get_mut(at)) {
                *v = value;
            }
        }
        s.counters.push(NetCounters { netns, values });
    }
    s.tcp_pages = get_known(b)?;
    s.under_pressure = get_known(b)?.map(|v| v != 0);
    Ok(s)
}

pub(super) fn put_counts(out: &mut impl BufMut, c: &PressureCounts) {
    put_u64(out, c.seen.len() as u64);
    put_all(out, c.seen);
    put_u64(out, c.lost);
}

pub(super) fn get_counts(b: &mut &[u8]) -> Result<PressureCounts, Short> {
    let mut c = PressureCounts::default();
    for at in 0..get_count(b)? {
        let count = get_u64(b)?;
        // Later versions may know more.
        if let Some(n) = usize::try_from(at).ok().and_then(|at| c.seen.get_mut(at)) {
            *n = count;
        }
    }
    c.lost = get_u64(b)?;
    Ok(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `put` writes is what `get` reads, and nothing less will do.
    fn there_and_back<T: PartialEq + std::fmt::Debug>(
        value: &T,
        put: impl Fn(&mut Vec<u8>, &T),
        get: impl Fn(&mut &[u8]) -> Result<T, Short>,
    ) {
        let mut bytes = Vec::new();
        put(&mut bytes, value);
        let mut rest = bytes.as_slice();
        assert_eq!(get(&mut rest).as_ref(), Ok(value));
        assert!(rest.is_empty());
        for cut in 0..bytes.len() {
            assert_eq!(get(&mut &bytes[..cut]), Err(Short));
        }
    }

    fn header() -> Header {
        Header {
            t_ns: 1 << 50,
            id: 77,
            kind: 7,
            hook: 40,
            reserved: 0,
            cpu: 3,
        }
    }

    proptest! {
        #[test]
        fn all_come_back(w in prop::array::uniform8(any::<u32>()), asked in any::<i32>(), wide in any::<u64>()) {
            there_and_back(&LimitSet {
                header: header(), began_ns: wide, asked, from: w[0], to: w[1], tgid: w[2],
                what: w[3] as u8, flags: w[4] as u8, level: w[5] as u16, optname: w[6], comm: *b"0123456789abcdef",
            }, put_limit, get_limit);
            there_and_back(&Pressure {
                header: header(), count: wide, allocated: wide / 2, limits: [wide, 1, 2], rmem_alloc: w[0],
                rcvbuf: w[1], kind: w[2] as u8, flags: w[3] as u8, direction: w[4] as u8, reserved: [0; 5],
            }, put_pressure, get_pressure);
            there_and_back(&SysctlWrite {
                header: header(), name: *b"tcp_mem\0\0\0\0\0\0\0\0\0", comm: *b"fedcba9876543210", netns: w[0], reserved: 0,
            }, put_sysctl, get_sysctl);
            let mut counts = PressureCounts { lost: wide, ..PressureCounts::default() };
            counts.seen[2] = w[0].into();
            there_and_back(&counts, put_counts, get_counts);
            there_and_back(&HostSample {
                at_ns: wide,
                settings: vec![
                    SettingValue { setting: Setting::TcpMem, netns: 0, values: vec![1, wide, 3] },
                    SettingValue { setting: Setting::WmemMax, netns: w[0], values: vec![] },
                ],
                counters: vec![NetCounters { netns: w[1], values: [Some(0), None, Some(u64::MAX - 1), Some(4), None, Some(6)] }],
                tcp_pages: (w[2] % 2 == 0).then_some(w[3].into()),
                under_pressure: [None, Some(false), Some(true)][w[4] as usize % 3],
            }, put_host, get_host);
        }

        #[test]
        fn any_bytes_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = get_host(&mut bytes.as_slice());
            let _ = get_counts(&mut bytes.as_slice());
            let _ = get_limit(&mut bytes.as_slice());
        }
    }

    #[test]
    fn a_setting_of_a_later_version_is_passed_over() {
        let mut bytes = Vec::new();
        put_all(&mut bytes, [9, 2, 200, 0, 1, 5, 3, 0, 1, 7, 0, 0, 0]);
        let mut rest = bytes.as_slice();
        let sample = get_host(&mut rest).expect("well-formed");
        assert_eq!(sample.settings.len(), 1);
        assert_eq!(sample.settings[0].setting, Setting::RmemMax);
        assert!(rest.is_empty());
    }
}
