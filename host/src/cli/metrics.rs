//! The metrics of `ninering serve`, for Prometheus and `ninering stat` to fetch: HTTP/1.1, `GET /metrics`.
//!
//! Whoever connects gets little: a few connections at a time, each for one request and for seconds.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use anyhow::bail;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use ninering::{
    listener::{Address, Resources},
    metrics::{Metrics, ProcessFigures, Snapshot},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

/// How many connections are served at a time; more wait to be accepted.
const MOST_CONNECTIONS: usize = 16;
/// How long a request may take to arrive.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may take in all.
const WHOLE: Duration = Duration::from_secs(15);
/// How long a request may be, in bytes.
const MOST_HEAD: usize = 16 << 10;
/// How long no connection is accepted after one could not be.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A socket that metrics can be fetched from.
pub(super) struct Endpoint(TcpListener);

impl Endpoint {
    pub(super) async fn bind(address: &Address) -> anyhow::Result<Self> {
        match address {
            Address::Tcp(host_and_port) => Ok(Self(TcpListener::bind(host_and_port).await?)),
            _ => bail!("metrics are fetched by HTTP over tcp://HOST:PORT"),
        }
    }

    /// Where it listens; the port is the real one where 0 was asked for.
    pub(super) fn local_address(&self) -> io::Result<Address> {
        Ok(Address::Tcp(self.0.local_addr()?.to_string()))
    }

    /// Serves for as long as it is awaited.
    pub(super) async fn serve(self, metrics: Arc<Metrics>, resources: Arc<Resources>) {
        let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let slot = Arc::clone(&slots).acquire_owned().await;
            match self.0.accept().await {
                Ok((stream, peer)) => {
                    let (metrics, resources) = (Arc::clone(&metrics), Arc::clone(&resources));
                    tokio::spawn(async move {
                        match timeout(WHOLE, converse(stream, metrics, resources)).await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => tracing::debug!(%peer, %error, "metrics: the connection failed"),
                            Err(_) => tracing::debug!(%peer, "metrics: closed, the client took too long"),
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "metrics: cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn converse(stream: TcpStream, metrics: Arc<Metrics>, resources: Arc<Resources>) -> hyper::Result<()> {
    let service = service_fn(move |request| answer(request, Arc::clone(&metrics), Arc::clone(&resources)));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MOST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(
    request: Request<Incoming>,
    metrics: Arc<Metrics>,
    resources: Arc<Resources>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "metrics can be got, and nothing else\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    if request.uri().path() != "/metrics" {
        return Ok(plain(StatusCode::NOT_FOUND, "the metrics are at /metrics\n"));
    }
    // Counting descriptors can take a while on some kernels.
    let text = move || metrics.snapshot().text(&ProcessFigures::now(), Some(&resources));
    let text = tokio::task::spawn_blocking(text);
    Ok(match text.await {
        Ok(text) => {
            let mut response = Response::new(Full::from(text));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Snapshot::CONTENT_TYPE));
            response
        }
        Err(error) => {
            tracing::error!(%error, "metrics: cannot be written");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n")
        }
    })
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
