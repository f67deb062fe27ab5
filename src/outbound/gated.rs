//! Connections over which nothing is sent any more once that is not allowed.
//!
//! A process may stand still between the moment at which it asks whether it leads and the one at which its request leaves it. What it
//! sends when it goes on, another process may have written by then. So whoever writes asks once more, at the last moment.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tower::Service;

/// Whether anything may be sent now.
pub type MaySend = Arc<dyn Fn() -> bool + Send + Sync>;

/// Makes connections with another connector.
#[derive(Clone)]
pub struct GatedConnector<C> {
    inner: C,
    may_send: MaySend,
}

impl<C> GatedConnector<C> {
    /// One whose connections ask so.
    pub fn new(inner: C, may_send: MaySend) -> Self {
        Self { inner, may_send }
    }
}

impl<C> Service<Uri> for GatedConnector<C>
where
    C: Service<Uri, Future: Send + 'static>,
{
    type Response = Gated<C::Response>;
    type Error = C::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, may_send) = (self.inner.call(to), self.may_send.clone());
        Box::pin(async move { Ok(Gated { inner: connecting.await?, may_send }) })
    }
}

/// A connection. What is to be sent when nothing may be any more ends it.
pub struct Gated<T> {
    inner: T,
    may_send: MaySend,
}

impl<T: Read + Unpin> Read for Gated<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Gated<T> {
    fn check(&self) -> io::Result<()> {
        if (self.may_send)() { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl<T: Write + Unpin> Write for Gated<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<T: Connection> Connection for Gated<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn nothing_is_sent_once_that_is_not_allowed() {
        let (near, mut far) = tokio::io::duplex(64);
        let allowed = Arc::new(AtomicBool::new(true));
        let asked = allowed.clone();
        let may_send: MaySend = Arc::new(move || asked.load(Ordering::SeqCst));
        let mut gated = TokioIo::new(Gated { inner: TokioIo::new(near), may_send });
        gated.write_all(b"one").await.unwrap();
        allowed.store(false, Ordering::SeqCst);
        let error = gated.write_all(b"two").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        far.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        gated.read_exact(&mut answer).await.unwrap();
        drop(gated);
        let mut sent = Vec::new();
        far.read_to_end(&mut sent).await.unwrap();
        assert_eq!((sent.as_slice(), &answer), (b"one".as_slice(), b"answer"), "it can be read all the same");
    }
}
