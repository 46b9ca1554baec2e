//! Tells somebody of each exchange with the API server.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Method, Request, Response, StatusCode};
use tower::{Layer, Service};

/// A request and the head of its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Method of the request.
    pub method: Method,
    /// It asked for a watch.
    pub is_watch: bool,
    /// Status of the answer; None where none came.
    pub status: Option<StatusCode>,
    /// From the one to the other.
    pub took: Duration,
}

/// Who is told.
pub type Observer = Arc<dyn Fn(&Exchange) + Send + Sync>;

/// The layer of the client.
#[derive(Clone)]
pub struct Observe(pub Observer);

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, observer: Arc::clone(&self.0) }
    }
}

/// A client's service that is observed.
#[derive(Clone)]
pub struct Observed<S> {
    inner: S,
    observer: Observer,
}

impl<S, In, Out> Service<Request<In>> for Observed<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let method = request.method().clone();
        let is_watch = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
        let (began, observer) = (Instant::now(), Arc::clone(&self.observer));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let status = answer.as_ref().ok().map(Response::status);
            observer(&Exchange { method, is_watch, status, took: began.elapsed() });
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use tower::service_fn;

    use super::*;

    #[tokio::test]
    async fn each_exchange_is_told_with_its_status() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let teller = Arc::clone(&told);
        let observe = Observe(Arc::new(move |exchange: &Exchange| {
            let Exchange { method, is_watch, status, .. } = exchange.clone();
            teller.lock().unwrap().push((method, is_watch, status.map(|status| status.as_u16())));
        }));
        let mut service = observe.layer(service_fn(|request: Request<()>| async move {
            let status = if request.method() == Method::GET { 200 } else { 409 };
            Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
        }));
        for (method, path) in
            [(Method::GET, "/a?watch=true&x=1"), (Method::GET, "/a?watched=true"), (Method::POST, "/a")]
        {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            service.call(request).await.unwrap();
        }
        let want = [(Method::GET, true, Some(200)), (Method::GET, false, Some(200)), (Method::POST, false, Some(409))];
        assert_eq!(*told.lock().unwrap(), want);
    }
}
