//! Length-prefixed frames on a byte stream: `length (u32, big endian) ‖ content`.

use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::code::CloseCode;
use crate::limits::{FRAME_BYTES_MAX, FRAME_TIME_MAX, HEADER_TIME_MAX};

/// Bytes in front of every frame.
pub(crate) const HEADER_BYTES: usize = 4;
/// What is written in one piece with the header: most frames are smaller, and each piece takes the connection's lock and may
/// become a packet of its own.
const FIRST_BYTES: usize = 4 * 1024;

/// Why a stream of frames cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes was announced, at most {FRAME_BYTES_MAX} are allowed")]
    TooLarge(u32),
    #[error("a frame without content")]
    Empty,
    #[error("the stream ended inside a frame")]
    Truncated,
    #[error("a started frame was not finished within {} s", .0.as_secs())]
    ReadTimeout(Duration),
    #[error("a frame was not taken by the peer within {} s", FRAME_TIME_MAX.as_secs())]
    WriteTimeout,
    #[error("the stream broke: {0}")]
    Io(std::io::Error),
}

impl FrameError {
    pub(crate) fn code(&self) -> CloseCode {
        match self {
            Self::TooLarge(_) => CloseCode::FrameTooLarge,
            Self::Empty => CloseCode::FrameEmpty,
            Self::Truncated => CloseCode::FrameTruncated,
            Self::ReadTimeout(_) | Self::WriteTimeout => CloseCode::FrameTimeout,
            Self::Io(_) => CloseCode::StreamLost,
        }
    }
}

/// Reads one frame; `None` when the stream ends between frames. Waiting for a frame to start has no limit; once its
/// first byte is here, the header and then the content have deadlines.
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<Vec<u8>>, FrameError> {
    let mut header = [0; HEADER_BYTES];
    let (first, rest) = header.split_at_mut(1);
    if stream.read(first).await.map_err(FrameError::Io)? == 0 {
        return Ok(None);
    }
    exactly(stream, rest, HEADER_TIME_MAX).await?;
    let length = u32::from_be_bytes(header);
    let bytes = usize::try_from(length).map_err(|_| FrameError::TooLarge(length))?;
    match bytes {
        0 => return Err(FrameError::Empty),
        n if n > FRAME_BYTES_MAX => return Err(FrameError::TooLarge(length)),
        _ => {}
    }
    let mut content = vec![0; bytes];
    exactly(stream, &mut content, FRAME_TIME_MAX).await?;
    Ok(Some(content))
}

/// Writes one frame and hands it to the connection. The caller has checked its length.
pub(crate) async fn write<S: AsyncWrite + Unpin>(stream: &mut S, content: &[u8]) -> Result<(), FrameError> {
    let length = u32::try_from(content.len()).map_err(|_| FrameError::TooLarge(u32::MAX))?;
    let (near, rest) = content.split_at(content.len().min(FIRST_BYTES));
    let first = [&length.to_be_bytes()[..], near].concat();
    let work = async {
        stream.write_all(&first).await?;
        stream.write_all(rest).await?;
        stream.flush().await
    };
    match timeout(FRAME_TIME_MAX, work).await {
        Ok(result) => result.map_err(FrameError::Io),
        Err(_) => Err(FrameError::WriteTimeout),
    }
}

async fn exactly<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut [u8], limit: Duration) -> Result<(), FrameError> {
    match timeout(limit, stream.read_exact(buffer)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::UnexpectedEof => Err(FrameError::Truncated),
        Ok(Err(e)) => Err(FrameError::Io(e)),
        Err(_) => Err(FrameError::ReadTimeout(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::io::Cursor;

    async fn all(bytes: &[u8]) -> (Vec<Vec<u8>>, Option<FrameError>) {
        let (mut stream, mut frames) = (Cursor::new(bytes.to_vec()), Vec::new());
        loop {
            match read(&mut stream).await {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, None),
                Err(e) => return (frames, Some(e)),
            }
        }
    }

    #[tokio::test]
    async fn frames_come_back_in_order_and_every_cut_is_noticed() {
        let mut stream = Cursor::new(Vec::new());
        for content in [&b"a"[..], b"bc", &[7; 1000]] {
            write(&mut stream, content).await.expect("writes");
        }
        let bytes = stream.into_inner();
        let (frames, error) = all(&bytes).await;
        assert_eq!(frames, [b"a".to_vec(), b"bc".to_vec(), vec![7; 1000]]);
        assert!(error.is_none());
        for cut in 1..bytes.len() {
            let between = cut == 5 || cut == 11;
            let (_, error) = all(&bytes[..cut]).await;
            assert_eq!(matches!(error, Some(FrameError::Truncated)), !between, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn lengths_are_judged_before_memory_is_taken() {
        let (_, error) = all(&[0xff; 8]).await;
        assert!(matches!(error, Some(FrameError::TooLarge(u32::MAX))));
        let over = u32::try_from(FRAME_BYTES_MAX + 1).expect("fits").to_be_bytes();
        assert!(matches!(all(&over).await.1, Some(FrameError::TooLarge(_))));
        assert!(matches!(all(&[0; 4]).await.1, Some(FrameError::Empty)));
        let most = u32::try_from(FRAME_BYTES_MAX).expect("fits").to_be_bytes();
        assert!(matches!(all(&most).await.1, Some(FrameError::Truncated)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_started_frame_has_deadlines_and_an_idle_stream_has_none() {
        struct Stalled(Vec<u8>);
        impl AsyncRead for Stalled {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                buffer: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let n = self.0.len().min(buffer.len());
                if n == 0 {
                    return std::task::Poll::Pending;
                }
                buffer[..n].copy_from_slice(&self.0.drain(..n).collect::<Vec<_>>());
                std::task::Poll::Ready(Ok(n))
            }
        }
        let idle = timeout(Duration::from_secs(3600), read(&mut Stalled(vec![]))).await;
        assert!(idle.is_err(), "an idle stream waits");
        let start = tokio::time::Instant::now();
        let header = read(&mut Stalled(vec![0])).await;
        assert!(matches!(header, Err(FrameError::ReadTimeout(HEADER_TIME_MAX))));
        assert_eq!(start.elapsed().as_secs(), HEADER_TIME_MAX.as_secs());
        let content = read(&mut Stalled(vec![0, 0, 0, 9, 1])).await;
        assert!(matches!(content, Err(FrameError::ReadTimeout(FRAME_TIME_MAX))));
    }
}
