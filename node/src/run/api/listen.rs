//! The socket: bound with its final mode, taken over only when nobody listens.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use axum::Router;
use tokio::net::UnixListener;
use tokio::sync::watch;

/// Why the API's socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process answers there.
    #[error("another process listens on {0}; stop it, or name another node.socket")]
    Taken(PathBuf),
    /// Something that is no socket stands there.
    #[error("{0} exists and is no socket; move it away, or name another node.socket")]
    NoSocket(PathBuf),
    /// The operating system refused.
    #[error("cannot listen on {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Binds the socket with `mode`. A socket file that a killed process left behind is replaced.
///
/// # Errors
/// [`SocketError`].
pub fn bind(path: &Path, mode: u32) -> Result<UnixListener, SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(io(e)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(SocketError::NoSocket(path.to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::Taken(path.to_owned())),
        Ok(_) => std::fs::remove_file(path).map_err(io)?,
    }
    // Bound under a name of its own and renamed once the mode is right: nobody connects in between.
    let fresh = path.with_extension(format!("sock.{}", std::process::id()));
    let listener = UnixListener::bind(&fresh).map_err(io)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode)).map_err(io)?;
    std::fs::rename(&fresh, path).map_err(io)?;
    Ok(listener)
}

/// Serves until `stop` turns true; requests under way are finished, streams are ended.
///
/// # Errors
/// When accepting fails for good.
pub async fn serve<L>(listener: L, router: Router, mut stop: watch::Receiver<bool>) -> io::Result<()>
where
    L: axum::serve::Listener,
    L::Addr: std::fmt::Debug,
{
    let stopped = async move {
        // An error means that the sender is gone: the process is stopping too.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await
}
