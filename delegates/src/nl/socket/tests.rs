use std::os::unix::net::UnixDatagram;

use attachments::names::IfName;
use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::nl::errno;
use crate::nl::link::{NewKind, NewLink};
use crate::nl::route::RouteFilter;

fn answer(kind: i32, flags: i32, body: &[u8]) -> Option<std::result::Result<(), Refusal>> {
    verdict(&Message { kind: kind as u16, flags: flags as u16, sequence: 1, body }).unwrap()
}

/// What the kernel sends with NETLINK_EXT_ACK: code, the header of the request, attributes.
fn refusal(code: i32, text: &str) -> Vec<u8> {
    let mut body = code.to_ne_bytes().to_vec();
    body.extend_from_slice(&[0; wire::HEADER]);
    body.extend_from_slice(&((5 + text.len()) as u16).to_ne_bytes());
    body.extend_from_slice(&NLMSGERR_ATTR_MSG.to_ne_bytes());
    body.extend_from_slice(text.as_bytes());
    body.push(0);
    body
}

#[test]
fn an_acknowledgement_is_success_and_a_code_is_refusal() {
    let flags = libc::NLM_F_CAPPED;
    assert_eq!(answer(libc::NLMSG_ERROR, flags, &refusal(0, "")[..20]), Some(Ok(())));
    assert_eq!(answer(libc::NLMSG_DONE, 0, &[]), Some(Ok(())));
    assert_eq!(answer(16, 0, &[]), None);
    let answer = answer(libc::NLMSG_ERROR, flags | libc::NLM_F_ACK_TLVS, &refusal(-22, "too large"));
    assert_eq!(answer, Some(Err(Refusal { errno: 22, detail: "too large".to_owned() })));
}

#[test]
fn an_explanation_that_lies_about_its_length_is_left_out() {
    let mut body = refusal(-22, "too large");
    body[20] = 200;
    let answer = answer(libc::NLMSG_ERROR, libc::NLM_F_CAPPED | libc::NLM_F_ACK_TLVS, &body);
    assert_eq!(answer, Some(Err(Refusal { errno: 22, detail: String::new() })));
}

#[test]
fn a_passed_deadline_is_late_not_a_hang() {
    let mut netlink = Netlink::open(Instant::now()).unwrap();
    // Without NLM_F_ACK the kernel answers nothing to this.
    let error = netlink.exchange.receive(&|| "wait".to_owned()).unwrap_err();
    assert!(matches!(error, Error::Late(_)), "{error}");
}

#[test]
fn a_reply_longer_than_the_buffer_is_an_error() {
    let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(5)).unwrap();
    netlink.exchange.buffer.truncate(64);
    let error = netlink.link_by_index(1).unwrap_err();
    assert_eq!(super::super::errno(&error), Some(Errno::EBADMSG));
}

proptest! {
    #[test]
    fn any_reply_is_read_without_a_panic(
        kind in prop_oneof![Just(2u16), Just(3), Just(4), Just(16)],
        flags: u16,
        body in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let message = Message { kind, flags, sequence: 1, body: &body };
        let _ = verdict(&message);
    }
}

/// A fake of the kernel: its answers, each with the number of the request that it answers, lie in the socket already.
struct Fake {
    netlink: Netlink,
    kernel: UnixDatagram,
}

impl Fake {
    fn new(answers: &[(u32, &[Request])]) -> Self {
        let (ours, kernel) = UnixDatagram::pair().unwrap();
        kernel.set_nonblocking(true).unwrap();
        for (sequence, messages) in answers {
            let datagram: Vec<u8> = messages.iter().flat_map(|message| message.clone().finish(*sequence)).collect();
            kernel.send(&datagram).unwrap();
        }
        Self { netlink: Netlink::over(ours.into(), Instant::now() + Duration::from_millis(50)), kernel }
    }

    /// How many requests came.
    fn requests(&self) -> usize {
        let mut buffer = [0; BUFFER];
        std::iter::from_fn(|| self.kernel.recv(&mut buffer).ok()).count()
    }
}

fn says(errno: i32) -> Request {
    Request::new(libc::NLMSG_ERROR as u16, libc::NLM_F_CAPPED, &refusal(-errno, "")[..20])
}

/// A link with an index and a name, with flags of its message.
fn tells(index: u32, name: &str, flags: i32) -> Request {
    let mut head = [0; 16];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut message = Request::new(libc::RTM_NEWLINK, flags, &head);
    message.text(libc::IFLA_IFNAME, name);
    message
}

fn done() -> Request {
    Request::new(libc::NLMSG_DONE as u16, libc::NLM_F_MULTI, &[0; 4])
}

fn overrun() -> Request {
    Request::new(libc::NLMSG_OVERRUN as u16, 0, &[])
}

fn names(links: &[crate::nl::link::Link]) -> Vec<&str> {
    links.iter().map(|link| link.name.as_str()).collect()
}

const INTERRUPTED: i32 = libc::NLM_F_MULTI | libc::NLM_F_DUMP_INTR;

#[test]
fn a_dump_that_was_interrupted_is_begun_again_and_counts_once() {
    let mut fake = Fake::new(&[
        (1, &[tells(1, "lo", libc::NLM_F_MULTI), tells(2, "old", INTERRUPTED)]),
        (1, &[done()]),
        (2, &[tells(1, "lo", libc::NLM_F_MULTI)]),
        (2, &[tells(3, "new", libc::NLM_F_MULTI), done()]),
    ]);
    assert_eq!(names(&fake.netlink.links(None).unwrap()), ["lo", "new"]);
    assert_eq!(fake.requests(), 2);
}

#[test]
fn a_dump_that_is_always_interrupted_is_an_error_and_no_half_list() {
    let interrupted: &[Request] = &[tells(1, "lo", INTERRUPTED), done()];
    let answers: Vec<(u32, &[Request])> = (1..=5).map(|sequence| (sequence, interrupted)).collect();
    let mut fake = Fake::new(&answers);
    let error = fake.netlink.links(None).unwrap_err();
    assert_eq!(error.to_string(), "list links: Interrupted system call (every dump was interrupted)");
    assert_eq!(fake.requests(), TRIES);
}

#[test]
fn a_dump_that_the_kernel_gives_up_or_has_no_room_for_is_begun_again() {
    for lost in [says(libc::EINTR), says(libc::ENOBUFS), overrun()] {
        let mut fake = Fake::new(&[(1, &[tells(1, "lo", 0), lost]), (2, &[tells(3, "new", 0), done()])]);
        assert_eq!(names(&fake.netlink.links(None).unwrap()), ["new"]);
    }
}

#[test]
fn answers_to_an_earlier_request_are_passed_over() {
    let mut fake = Fake::new(&[(1, &[overrun()]), (1, &[tells(7, "late", 0)]), (2, &[tells(8, "now", 0)])]);
    assert_eq!(fake.netlink.link_by_index(8).unwrap().unwrap().name, "now");
    assert_eq!(fake.requests(), 2);
}

#[test]
fn a_question_whose_answer_is_always_lost_is_an_error() {
    let overrun: &[Request] = &[overrun()];
    let answers: Vec<(u32, &[Request])> = (1..=5).map(|sequence| (sequence, overrun)).collect();
    let mut fake = Fake::new(&answers);
    assert_eq!(errno(&fake.netlink.link_by_index(8).unwrap_err()), Some(Errno::ENOBUFS));
    assert_eq!(fake.requests(), TRIES);
}

#[test]
fn a_change_that_is_refused_or_whose_answer_is_lost_is_asked_for_once() {
    let name: IfName = "net1".parse().unwrap();
    for (answer, expected) in
        [(says(libc::EBUSY), Errno::EBUSY), (says(libc::ENOBUFS), Errno::ENOBUFS), (overrun(), Errno::ENOBUFS)]
    {
        let answer = std::slice::from_ref(&answer);
        let mut fake = Fake::new(&[(1, answer), (2, answer)]);
        assert_eq!(errno(&fake.netlink.add_link(&NewLink::new(&name, NewKind::Dummy)).unwrap_err()), Some(expected));
        assert_eq!(errno(&fake.netlink.delete_group(7).unwrap_err()), Some(expected), "busy is not gone");
        assert_eq!(fake.requests(), 2);
    }
}

#[test]
fn a_batch_ends_with_its_first_refusal_and_the_rest_is_nobodys() {
    let mut fake = Fake::new(&[(1, &[says(0)]), (2, &[says(libc::EBUSY)]), (3, &[says(0)]), (4, &[says(0)])]);
    let request = || Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK, &[0; 16]);
    let error = fake.netlink.batch(vec![request(), request(), request()], &|| "change".to_owned()).unwrap_err();
    assert_eq!(errno(&error), Some(Errno::EBUSY));
    fake.netlink.acknowledged(request(), || "change again".to_owned()).unwrap();
}

#[test]
fn one_answer_too_many_is_passed_over() {
    let mut fake = Fake::new(&[(1, &[says(0), says(0), says(libc::EBUSY)]), (2, &[says(0)])]);
    assert!(fake.netlink.delete_link(7).unwrap());
    assert!(fake.netlink.delete_link(8).unwrap());
}

#[test]
fn a_kernel_that_falls_silent_is_late() {
    let mut fake = Fake::new(&[(1, &[tells(1, "lo", libc::NLM_F_MULTI)])]);
    let error = fake.netlink.routes(RouteFilter::default()).unwrap_err();
    assert!(matches!(error, Error::Late(_)), "{error}");
}

#[test]
fn after_a_dump_that_could_not_be_read_the_next_is_not_refused() {
    let mut netlink = Netlink::open(Instant::now() + Duration::from_secs(5)).unwrap();
    netlink.exchange.buffer.truncate(64);
    let error = netlink.links(None).unwrap_err();
    assert_eq!(errno(&error), Some(Errno::EBADMSG));
    netlink.exchange.buffer.resize(BUFFER, 0);
    assert!(names(&netlink.links(None).unwrap()).contains(&"lo"));
}
