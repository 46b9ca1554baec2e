//! What a server grants: an address with its routes, and for how long.

use std::net::Ipv4Addr;

use attachments::cni::result::{CniResult, Ip, Route};
use ipnet::Ipv4Net;

use super::message::{Message, option};

/// RT_SCOPE_LINK: a destination without a router is on the link.
const ON_LINK: u8 = 253;

/// What "for ever" is as a time (RFC 2131 section 3.3).
pub const FOREVER: u32 = u32::MAX;

/// The lease of a server that does not say how long it is.
const USUAL: u32 = 3600;

/// What an offer or an acknowledgement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The address in its subnet.
    pub address: Ipv4Net,
    /// The first router.
    pub gateway: Option<Ipv4Addr>,
    /// Destinations and their routers; 0.0.0.0: on the link.
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// Who grants it.
    pub server: Ipv4Addr,
    /// Its times.
    pub times: Times,
}

/// How long a lease is, in seconds from the request for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// After this the server is asked to renew it (T1).
    pub renewal: u32,
    /// After this every server is (T2).
    pub rebinding: u32,
    /// After this it is over; [`FOREVER`]: never.
    pub expiry: u32,
}

impl Times {
    /// Reads an acknowledgement: what it does not say is as the RFC has it.
    pub fn of(message: &Message) -> Self {
        let expiry = message.number(option::LEASE_TIME).unwrap_or(USUAL).max(1);
        if expiry == FOREVER {
            return Self { renewal: FOREVER, rebinding: FOREVER, expiry };
        }
        // RFC 2131 section 4.4.5; times that are in no order are none.
        let said = |code: u8, most: u32| message.number(code).filter(|seconds| (1..=most).contains(seconds));
        let rebinding = said(option::REBINDING_TIME, expiry).unwrap_or((u64::from(expiry) * 7 / 8) as u32);
        let renewal = said(option::RENEWAL_TIME, rebinding).unwrap_or((expiry / 2).min(rebinding));
        Self { renewal, rebinding, expiry }
    }
}

impl Terms {
    /// Reads an offer or an acknowledgement. The error says what makes it useless.
    pub fn of(message: &Message) -> Result<Self, String> {
        let server = message.address(option::SERVER).ok_or("it does not say which server it is from")?;
        let mask = message.address(option::SUBNET_MASK).ok_or("it has no subnet mask (option 1)")?;
        let yours = message.yours;
        if yours.is_unspecified() || yours.is_loopback() || yours.is_multicast() || yours.is_broadcast() {
            return Err(format!("{yours} is no address for a station"));
        }
        let address = Ipv4Net::with_netmask(yours, mask).map_err(|_| format!("{mask} is no subnet mask"))?;
        let gateway = message.address(option::ROUTER).filter(|router| !router.is_unspecified());
        Ok(Self { address, gateway, routes: routes(message, gateway), server, times: Times::of(message) })
    }

    /// What the attachment gets; `priority` is the metric of its routes.
    pub fn result(&self, priority: Option<u32>) -> CniResult {
        let each = |&(destination, router): &(Ipv4Net, Ipv4Addr)| Route {
            priority,
            scope: router.is_unspecified().then_some(ON_LINK),
            ..Route::new(destination.into(), Some(router.into()))
        };
        CniResult {
            ips: vec![Ip::new(self.address.into(), self.gateway.map(Into::into), None)],
            routes: self.routes.iter().map(each).collect(),
            ..CniResult::default()
        }
    }
}

/// RFC 3442: classless routes stand in place of all others.
fn routes(message: &Message, gateway: Option<Ipv4Addr>) -> Vec<(Ipv4Net, Ipv4Addr)> {
    let classless = [option::CLASSLESS_ROUTES, option::CLASSLESS_ROUTES_OF_MICROSOFT]
        .into_iter()
        .filter_map(|code| message.option(code).and_then(classless))
        .find(|routes| !routes.is_empty());
    classless.unwrap_or_else(|| {
        let mut routes = message.option(option::STATIC_ROUTES).map(classful).unwrap_or_default();
        routes.extend(gateway.map(|router| (Ipv4Net::default(), router)));
        routes
    })
}

/// A prefix length, as many bytes of the destination as it needs, a router. Nothing where one of them is torn.
fn classless(mut bytes: &[u8]) -> Option<Vec<(Ipv4Net, Ipv4Addr)>> {
    let mut routes = Vec::new();
    while let Some((&length, rest)) = bytes.split_first() {
        let (significant, rest) = rest.split_at_checked(usize::from(length).div_ceil(8))?;
        let (router, rest) = rest.split_first_chunk::<4>()?;
        let mut octets = [0; 4];
        octets.get_mut(..significant.len())?.copy_from_slice(significant);
        routes.push((Ipv4Net::new(octets.into(), length).ok()?.trunc(), Ipv4Addr::from(*router)));
        bytes = rest;
    }
    Some(routes)
}

/// Pairs of a destination, whose class says how long its prefix is, and a router.
fn classful(bytes: &[u8]) -> Vec<(Ipv4Net, Ipv4Addr)> {
    let address = |bytes: &[u8]| Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]);
    let pair = |bytes: &[u8]| {
        let length = match bytes[0] {
            0..128 => 8,
            128..192 => 16,
            192..224 => 24,
            _ => return None,
        };
        Some((Ipv4Net::new(address(bytes), length).ok()?.trunc(), address(&bytes[4..])))
    };
    bytes.chunks_exact(8).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use attachments::cni::version::Version;
    use attachments::names::Mac;
    use proptest::prelude::*;

    use super::super::message::Kind;
    use super::*;

    fn ack(more: &[(u8, &[u8])]) -> Message {
        let known = [(option::SERVER, &[10, 9, 0, 1][..]), (option::SUBNET_MASK, &[255, 255, 255, 0])];
        let options = known.iter().chain(more).map(|(code, value)| (*code, value.to_vec())).collect();
        Message { yours: Ipv4Addr::new(10, 9, 0, 7), options, ..Message::new(Kind::Ack, 1, Mac([2, 0, 0, 0, 0, 1])) }
    }

    fn result(more: &[(u8, &[u8])], priority: Option<u32>) -> String {
        Terms::of(&ack(more)).unwrap().result(priority).encode(Version::V1_0_0).unwrap().to_json()
    }

    #[test]
    fn the_result_has_the_shape_of_the_reference_plugins() {
        assert_eq!(result(&[], None), r#"{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.7/24"}]}"#);
        let both: [(u8, &[u8]); 2] = [
            (option::ROUTER, &[10, 9, 0, 1, 10, 9, 0, 2]),
            (option::STATIC_ROUTES, &[172, 16, 5, 0, 10, 9, 0, 3, 224, 0]),
        ];
        assert_eq!(
            result(&both, Some(50)),
            r#"{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.7/24","gateway":"10.9.0.1"}],"routes":[{"dst":"172.16.0.0/16","gw":"10.9.0.3","priority":50},{"dst":"0.0.0.0/0","gw":"10.9.0.1","priority":50}]}"#
        );
    }

    #[test]
    fn classless_routes_replace_the_others() {
        let classless: &[u8] = &[16, 10, 8, 10, 9, 0, 4, 32, 10, 7, 7, 7, 0, 0, 0, 0, 0, 10, 9, 0, 5];
        let all = [(option::ROUTER, &[10, 9, 0, 1][..]), (option::CLASSLESS_ROUTES, classless)];
        let told = r#"{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.7/24","gateway":"10.9.0.1"}],"routes":[{"dst":"10.8.0.0/16","gw":"10.9.0.4"},{"dst":"10.7.7.7/32","gw":"0.0.0.0","scope":253},{"dst":"0.0.0.0/0","gw":"10.9.0.5"}]}"#;
        assert_eq!(result(&all, None), told);
        let torn = [(option::ROUTER, &[10, 9, 0, 1][..]), (option::CLASSLESS_ROUTES, &classless[..20])];
        assert!(result(&torn, None).contains(r#""routes":[{"dst":"0.0.0.0/0","gw":"10.9.0.1"}]"#));
        let of_microsoft = [(option::CLASSLESS_ROUTES, &[33][..]), (249, &[8, 9, 1, 1, 1, 1])];
        assert!(result(&of_microsoft, None).contains(r#""routes":[{"dst":"9.0.0.0/8","gw":"1.1.1.1"}]"#));
    }

    #[test]
    fn times_that_are_in_no_order_are_those_of_the_rfc() {
        let times = |lease: u32, t1: u32, t2: u32| {
            let said = [(option::LEASE_TIME, lease), (option::RENEWAL_TIME, t1), (option::REBINDING_TIME, t2)];
            let bytes = said.map(|(code, number)| (code, number.to_be_bytes()));
            let options: Vec<(u8, &[u8])> = bytes.iter().map(|(code, bytes)| (*code, &bytes[..])).collect();
            let Times { renewal, rebinding, expiry } = Times::of(&ack(&options));
            (renewal, rebinding, expiry)
        };
        assert_eq!(times(120, 50, 100), (50, 100, 120));
        assert_eq!(times(120, 0, 500), (60, 105, 120));
        assert_eq!(times(120, 110, 100), (60, 100, 120));
        assert_eq!(times(120, 0, 30), (30, 30, 120));
        assert_eq!(times(FOREVER, 1, 2), (FOREVER, FOREVER, FOREVER));
        assert_eq!(times(0, 0, 0), (0, 0, 1));
        assert_eq!(Times::of(&ack(&[])).expiry, 3600);
    }

    #[test]
    fn an_answer_that_nothing_can_be_done_with_says_why() {
        let why = |change: &dyn Fn(&mut Message)| {
            let mut message = ack(&[]);
            change(&mut message);
            Terms::of(&message).unwrap_err()
        };
        assert_eq!(why(&|message| message.options.truncate(1)), "it has no subnet mask (option 1)");
        assert!(why(&|message| drop(message.options.remove(0))).contains("which server"));
        assert_eq!(why(&|message| message.options[1].1 = vec![255, 0, 255, 0]), "255.0.255.0 is no subnet mask");
        assert_eq!(why(&|message| message.yours = Ipv4Addr::LOCALHOST), "127.0.0.1 is no address for a station");
    }

    proptest! {
        #[test]
        fn any_routes_are_read_or_refused(bytes: Vec<u8>) {
            for (destination, _) in classless(&bytes).unwrap_or_default().into_iter().chain(classful(&bytes)) {
                prop_assert_eq!(destination, destination.trunc());
            }
        }
    }
}
