//! Reads of the API server, with a bound on their number and on the memory of an answer.

use std::pin::pin;
use std::sync::Arc;

use futures::io::{AsyncRead, AsyncReadExt};
use kube::Client;
use kube::api::{GetParams, ListParams};
use kube::core::Request;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::error::said;

/// The most reads of single objects at once. Further reads wait in their order.
const AT_ONCE: usize = 16;
/// An answer up to this long is read without waiting.
const USUAL: u64 = 256 << 10;
/// Longer answers are read one at a time, up to this length: etcd takes 1.5 MiB by default.
const LONGEST: u64 = 4 << 20;

/// Reads objects. Clones share the bounds.
#[derive(Clone)]
pub struct Reader {
    client: Client,
    seats: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

/// The outcome of a read.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// The object, or the list, as JSON.
    Found(Vec<u8>),
    /// The object does not exist, or its kind does not.
    Absent,
    /// The API server could not be asked, with the reason.
    Unanswered(String),
}

impl Reader {
    /// A reader without reads under way.
    pub fn new(client: Client) -> Self {
        Self { client, seats: Arc::new(Semaphore::new(AT_ONCE)), long: Arc::new(Semaphore::new(1)) }
    }

    /// Reads one object of a collection.
    pub async fn object(&self, collection: &str, name: &str, deadline: Instant) -> Read {
        in_time(self.read(collection, name), deadline).await
    }

    /// Reads all objects of a collection of few, as a list.
    pub async fn list(&self, collection: &str, deadline: Instant) -> Read {
        let read = async {
            let _seat = self.seats.acquire().await;
            let _turn = self.long.acquire().await;
            page(&self.client, collection, true, &ListParams::default(), LONGEST).await
        };
        in_time(read, deadline).await
    }

    async fn read(&self, collection: &str, name: &str) -> Result<Option<Vec<u8>>, kube::Error> {
        let _seat = self.seats.acquire().await;
        let request = Request::new(collection).get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
        let mut body = pin!(self.client.request_stream(request).await?);
        let mut json = Vec::new();
        if take(&mut body, &mut json, USUAL).await? {
            return Ok(Some(json));
        }
        let _turn = self.long.acquire().await;
        Ok(take(&mut body, &mut json, LONGEST).await?.then_some(json))
    }
}

/// What a read has come to.
async fn in_time(read: impl Future<Output = Result<Option<Vec<u8>>, kube::Error>>, deadline: Instant) -> Read {
    match timeout_at(deadline, read).await {
        Ok(Ok(Some(json))) => Read::Found(json),
        Ok(Ok(None)) => Read::Unanswered(format!("an answer of more than {LONGEST} bytes")),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Read::Absent,
        Ok(Err(error)) => Read::Unanswered(said(&error)),
        Err(_) => Read::Unanswered("no answer in time".to_owned()),
    }
}

/// Reads one page of a collection as JSON, whole objects or their metadata; None when it is longer than `longest` bytes.
pub(crate) async fn page(
    client: &Client,
    collection: &str,
    is_whole: bool,
    params: &ListParams,
    longest: u64,
) -> Result<Option<Vec<u8>>, kube::Error> {
    let request = Request::new(collection);
    let request = if is_whole { request.list(params) } else { request.list_metadata(params) };
    let request = request.map_err(kube::Error::BuildRequest)?;
    let mut body = pin!(client.request_stream(request).await?);
    let mut json = Vec::new();
    Ok(take(&mut body, &mut json, longest).await?.then_some(json))
}

/// Reads to the end, or until there are more than `longest` bytes. True at the end.
async fn take(body: &mut (impl AsyncRead + Unpin), json: &mut Vec<u8>, longest: u64) -> Result<bool, kube::Error> {
    let room = (longest + 1).saturating_sub(json.len() as u64);
    body.take(room).read_to_end(json).await.map_err(kube::Error::ReadEvents)?;
    Ok(json.len() as u64 <= longest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use futures::io::Cursor;

    use super::*;
    use crate::testing::{Server, answer, later};

    #[tokio::test]
    async fn no_more_requests_are_under_way_than_the_bound() {
        let server = Server::start(|_| answer("200 OK", "{}")).await;
        server.close();
        let reader = Reader::new(server.client.clone());
        let reads = join_all((0..3 * AT_ONCE).map(|number| {
            let reader = reader.clone();
            async move { reader.object("/api/v1/pods", &format!("p{number}"), later()).await }
        }));
        let opening = async {
            while server.asked() < AT_ONCE {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // One more would come now.
            tokio::time::sleep(Duration::from_millis(50)).await;
            let under_way = server.asked();
            server.open();
            under_way
        };
        let (reads, under_way) = tokio::join!(reads, opening);
        assert_eq!((under_way, reads.len()), (AT_ONCE, 3 * AT_ONCE));
        assert!(reads.iter().all(|read| *read == Read::Found(b"{}".to_vec())));
    }

    #[tokio::test]
    async fn what_is_absent_too_long_or_late_is_told_apart() {
        let status =
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","reason":"NotFound","code":404}"#;
        let usual = "x".repeat(300 << 10);
        for (answer, want) in [
            (answer("404 Not Found", status), Read::Absent),
            (answer("404 Not Found", "404 page not found"), Read::Absent),
            (answer("200 OK", &usual), Read::Found(usual.clone().into_bytes())),
            (
                answer("200 OK", &"x".repeat(5 << 20)),
                Read::Unanswered("an answer of more than 4194304 bytes".to_owned()),
            ),
        ] {
            let server = Server::start(move |_| answer.clone()).await;
            let reader = Reader::new(server.client.clone());
            assert!(reader.object("/api/v1/pods", "p", later()).await == want);
        }
        let server = Server::start(|_| String::new()).await;
        server.close();
        let reader = Reader::new(server.client.clone());
        let soon = Instant::now() + Duration::from_millis(10);
        let late = reader.object("/api/v1/pods", "p", soon).await;
        assert_eq!(late, Read::Unanswered("no answer in time".to_owned()));
    }

    #[tokio::test]
    async fn a_body_is_read_to_its_end_or_to_the_bound_and_can_be_read_on() {
        let mut body = Cursor::new(b"0123456789".to_vec());
        let mut read = Vec::new();
        assert!(!take(&mut body, &mut read, 4).await.unwrap());
        assert_eq!(read, b"01234");
        assert!(!take(&mut body, &mut read, 9).await.unwrap());
        assert!(take(&mut body, &mut read, 10).await.unwrap());
        assert_eq!(read, b"0123456789");
    }
}
