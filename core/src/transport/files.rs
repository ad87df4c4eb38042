//! Certificates of files: read again when the files change, and told of before they end.

use std::time::{Duration, Instant, SystemTime};

use tokio::{task::spawn_blocking, time::sleep};

use super::{
    KeyEvent, TransportEvent,
    identity::{Files, Identity, Validity},
    node::Node,
};
use crate::{
    config::Security,
    error::{Error, Result},
};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long files that cannot be used have to become better ones: they are written one by one.
const SETTLE: Duration = Duration::from_secs(3);

/// How much of a certificate's time is left, in steps; each is told once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Left {
    Enough,
    /// Less than a third: when it should have been renewed.
    Third,
    /// Less than a tenth.
    Tenth,
    Nothing,
}

impl Left {
    fn of(validity: &Validity, now: SystemTime) -> Self {
        let (left, whole) = (validity.left(now), validity.whole());
        if left.is_zero() {
            Self::Nothing
        } else if left < whole / 10 {
            Self::Tenth
        } else if left < whole / 3 {
            Self::Third
        } else {
            Self::Enough
        }
    }
}

impl Node {
    /// Reads the files again and uses them from now on; on an error those before stay in use.
    pub(super) async fn reload_certificates(&self) -> Result<()> {
        let security = self.security.lock().clone();
        let Security::Pem { cert, .. } = &security else {
            return Err(Error::Argument {
                field: "security",
                value: "a secret".into(),
                expected: "only a node that was started with PEM files can read them again".into(),
            });
        };
        let path = cert.display().to_string();
        let id = self.me.id.clone();
        let read = spawn_blocking(move || Identity::load(&security, &id)).await;
        self.keys.change(read.map_err(|why| Error::Internal(why.to_string()))??)?;
        self.keys_changed.notify_one();
        self.emit(TransportEvent::Keys(KeyEvent::Reloaded { path }));
        Ok(())
    }

    /// Looks after the files until the transport stops; at once over where there are none.
    pub(super) async fn watch_files(&self) {
        let path = match &*self.security.lock() {
            Security::Pem { cert, .. } => cert.display().to_string(),
            _ => return,
        };
        // What could not be used, since when, and why, until it is told.
        let mut unusable: Option<(Files, Instant, Option<Error>)> = None;
        let mut told = (self.keys.validity(), Left::Enough);
        loop {
            self.tell_what_is_left(&mut told);
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(LOOK_EVERY) => {}
            }
            let used = self.keys.files();
            let files = used.clone();
            let now = spawn_blocking(move || files.again()).await.unwrap_or_default();
            if now == used {
                unusable = None; // they are as before again, or somebody has read them already
            } else if let Some((_, since, error)) = unusable.as_mut().filter(|u| u.0 == now) {
                if since.elapsed() >= SETTLE
                    && let Some(error) = error.take()
                {
                    let (path, reason) = (path.clone(), error.to_string());
                    self.emit(TransportEvent::Keys(KeyEvent::Rejected { path, reason }));
                }
            } else {
                unusable = match self.reload_certificates().await {
                    Ok(()) => None,
                    Err(error) => Some((now, Instant::now(), Some(error))),
                };
            }
        }
    }

    fn tell_what_is_left(&self, told: &mut (Option<Validity>, Left)) {
        let Some(validity) = self.keys.validity() else { return };
        if told.0.as_ref() != Some(&validity) {
            *told = (Some(validity.clone()), Left::Enough);
        }
        let now = SystemTime::now();
        let left = Left::of(&validity, now);
        if left > told.1 {
            told.1 = left;
            let path = validity.path.display().to_string();
            let event = KeyEvent::Expiring { path, left: validity.left(now) };
            self.emit(TransportEvent::Keys(event));
        }
    }
}
