//! The two addresses of a socket, kept small: nearly all are IPv4, as such or mapped into IPv6.

/// `::ffff:0:0/96`.
const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// Local and remote address, as `SockState` has them.
#[derive(Clone, Debug)]
pub(super) enum Ends {
    /// Both in the first four bytes, the rest zero.
    V4([u8; 4], [u8; 4]),
    /// Both mapped into IPv6.
    Mapped([u8; 4], [u8; 4]),
    /// Anything else.
    Wide(Box<[[u8; 16]; 2]>),
}

fn short(address: &[u8; 16]) -> Option<[u8; 4]> {
    let (first, rest) = address.split_first_chunk()?;
    (rest == [0; 12]).then_some(*first)
}

fn mapped(address: &[u8; 16]) -> Option<[u8; 4]> {
    let (last, rest) = (address.last_chunk()?, &address[..12]);
    (rest == MAPPED).then_some(*last)
}

impl Ends {
    pub(super) fn new(local: &[u8; 16], remote: &[u8; 16]) -> Ends {
        if let (Some(local), Some(remote)) = (short(local), short(remote)) {
            Ends::V4(local, remote)
        } else if let (Some(local), Some(remote)) = (mapped(local), mapped(remote)) {
            Ends::Mapped(local, remote)
        } else {
            Ends::Wide(Box::new([*local, *remote]))
        }
    }

    /// What `new` was given.
    pub(super) fn both(&self) -> [[u8; 16]; 2] {
        match self {
            Ends::V4(local, remote) => [local, remote].map(|from| {
                let mut address = [0; 16];
                address[..4].copy_from_slice(from);
                address
            }),
            Ends::Mapped(local, remote) => [local, remote].map(|from| {
                let mut address = [0; 16];
                address[..12].copy_from_slice(&MAPPED);
                address[12..].copy_from_slice(from);
                address
            }),
            Ends::Wide(both) => **both,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn address() -> impl Strategy<Value = [u8; 16]> {
        prop_oneof![
            any::<[u8; 16]>(),
            Just([0; 16]),
            any::<[u8; 4]>().prop_map(|a| {
                let mut address = [0; 16];
                address[..4].copy_from_slice(&a);
                address
            }),
            any::<[u8; 4]>().prop_map(|a| Ipv4Addr::from(a).to_ipv6_mapped().octets()),
        ]
    }

    proptest! {
        #[test]
        fn addresses_come_back(local in address(), remote in address()) {
            prop_assert_eq!(Ends::new(&local, &remote).both(), [local, remote]);
        }
    }

    #[test]
    fn ipv4_needs_no_memory_of_its_own() {
        let client = Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets();
        let server = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
        assert!(matches!(Ends::new(&server, &client), Ends::Mapped(..)));
        assert!(matches!(Ends::new(&[0; 16], &[0; 16]), Ends::V4(..)));
        assert_eq!(size_of::<Ends>(), 16);
    }
}
