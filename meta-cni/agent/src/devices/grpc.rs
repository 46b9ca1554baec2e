//! One call of gRPC over a unix socket: a connection of HTTP/2, a message there, a message back.

use std::io;
use std::path::Path;

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, Method, Request, Version};
use tokio::net::UnixStream;

/// Bytes in front of a message: whether it is compressed, and its length.
const HEAD: usize = 5;
/// What the other side may send before we have read it.
const WINDOW: u32 = 256 << 10;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// Nobody listens.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The other side speaks no HTTP/2, or broke off.
    #[error("the connection broke: {0}")]
    Http2(#[from] h2::Error),
    /// The answer is longer than it may be.
    #[error("got an answer of {got} bytes, want at most {limit}")]
    TooLong {
        /// Bytes that it has, as far as they are known.
        got: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// The other side refuses.
    #[error("it refuses: {message} (gRPC status {code})")]
    Status {
        /// `grpc-status`.
        code: u32,
        /// `grpc-message`.
        message: String,
    },
    /// The answer is none of gRPC.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Calls a method, as `/package.Service/Method`, and returns the message of its answer, of at most `limit` bytes.
pub async fn unary(socket: &Path, method: &'static str, message: &[u8], limit: usize) -> Result<Vec<u8>, GrpcError> {
    let stream = UnixStream::connect(socket).await?;
    let (client, connection) =
        h2::client::Builder::new().initial_window_size(WINDOW).max_header_list_size(16 << 10).handshake(stream).await?;
    let call = async {
        let mut client = client.ready().await?;
        let (response, mut body) = client.send_request(request(method), false)?;
        body.send_data(framed(message), true)?;
        let response = response.await?;
        if !response.status().is_success() {
            return Err(GrpcError::Malformed("an answer of HTTP that is no success"));
        }
        let head = response.headers().clone();
        let (received, trailers) = receive(response.into_body(), limit).await?;
        // Without a message the status is at the head.
        status(trailers.as_ref().unwrap_or(&head))?;
        received.get(HEAD..).map(<[u8]>::to_vec).ok_or(GrpcError::Malformed("an answer without a message"))
    };
    tokio::select! {
        answer = call => answer,
        ended = connection => Err(ended.err().map_or(GrpcError::Malformed("the connection ended before the answer"), GrpcError::Http2)),
    }
}

fn request(method: &'static str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    let uri = http::Uri::builder().scheme("http").authority("localhost").path_and_query(method).build();
    *request.uri_mut() = uri.unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
    headers.insert(http::header::TE, http::HeaderValue::from_static("trailers"));
    request
}

/// A message as it is sent.
pub fn framed(message: &[u8]) -> Bytes {
    let mut framed = Vec::with_capacity(HEAD + message.len());
    framed.push(0);
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(message);
    framed.into()
}

/// The answer's bytes, with the head of its message, and its trailers.
async fn receive(mut body: RecvStream, limit: usize) -> Result<(Vec<u8>, Option<HeaderMap>), GrpcError> {
    let mut received = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        received.extend_from_slice(&chunk);
        if let Some((&[compressed, a, b, c, d], _)) = received.split_first_chunk::<HEAD>() {
            let length = u32::from_be_bytes([a, b, c, d]) as usize;
            if compressed != 0 {
                return Err(GrpcError::Malformed("a compressed answer, which was not asked for"));
            }
            if length > limit {
                return Err(GrpcError::TooLong { got: length, limit });
            }
            if received.len() > HEAD + length {
                return Err(GrpcError::Malformed("more than one message"));
            }
        }
    }
    let trailers = body.trailers().await?;
    if let Some((&[_, a, b, c, d], message)) = received.split_first_chunk::<HEAD>()
        && message.len() != u32::from_be_bytes([a, b, c, d]) as usize
    {
        return Err(GrpcError::Malformed("an answer that is cut short"));
    }
    Ok((received, trailers))
}

fn status(headers: &HeaderMap) -> Result<(), GrpcError> {
    let text = |key: &str| headers.get(key).and_then(|value| value.to_str().ok());
    match text("grpc-status").and_then(|code| code.parse().ok()) {
        Some(0) => Ok(()),
        Some(code) => Err(GrpcError::Status { code, message: text("grpc-message").unwrap_or_default().to_owned() }),
        None => Err(GrpcError::Malformed("an answer without a gRPC status")),
    }
}
