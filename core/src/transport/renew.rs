//! Keys that change while links are up. A link whose keys are not those in use any more is made
//! anew: the new one takes its place first, and the old one goes once nothing is under way on it,
//! so that nothing is lost. One whose peer is believed no more goes within five seconds, whatever
//! is under way on it.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};

use super::{
    end::{Code, LinkEnd},
    identity::Identity,
    link::Link,
    node::Node,
    secret::Secret,
};
use crate::{
    config::Security,
    error::{Error, Result},
    seldom::seldom,
};

/// How many links are made anew at once: each is a handshake.
const AT_ONCE: usize = 8;
/// How long the end with the greater id leaves it to the other: mostly both keys change.
const SECOND: Duration = Duration::from_secs(1);
/// How long a peer that is believed no more has for a link with other keys: less than five
/// seconds, with all that it takes to close one.
const DISTRUSTED_FOR: Duration = Duration::from_secs(4);
/// How often a link is tried anew: the peer may not have heard yet that our keys are good.
const AGAIN: Duration = Duration::from_secs(5);

impl Node {
    /// Proves itself by the first of these from now on, and believes whoever holds any of them.
    pub(super) fn set_secrets(&self, secrets: &[Secret]) -> Result<()> {
        let mut security = self.security.lock();
        let before = match &*security {
            Security::Secret(secret) => secret.clone(),
            Security::Secrets(secrets) => secrets[0].clone(),
            Security::Pem { .. } | Security::Insecure => {
                return Err(Error::Argument {
                    field: "secrets",
                    value: format!("{} secrets", secrets.len()),
                    expected: "cannot be set on a node that was not started with a secret".into(),
                });
            }
        };
        crate::config::check_secrets(secrets.len()).map_err(|expected| Error::Argument {
            field: "secrets",
            value: format!("{} secrets", secrets.len()),
            expected,
        })?;
        let next = Security::Secrets(secrets.to_vec());
        let mut identity = Identity::load(&next, &self.me.id)?;
        if secrets[0] == before {
            identity.ours = self.keys.ours(); // no link has to be made anew for that
        }
        self.keys.change(identity)?;
        *security = next;
        drop(security);
        self.keys_changed.notify_one();
        Ok(())
    }

    /// Whether a link should be made anew.
    pub(super) fn is_stale(&self, link: &Link) -> bool {
        link.health.generation != self.keys.generation() || !self.is_believed(link)
    }

    fn is_believed(&self, link: &Link) -> bool {
        self.keys.accepts(&link.chain, !link.dialed)
    }

    /// Looks after the links each time that the keys have changed.
    pub(super) async fn keep_keys(self: &Arc<Self>) {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.keys_changed.notified() => {}
            }
            for link in self.pool.links_and_retired() {
                if !self.is_believed(&link) && !link.distrusted.swap(true, Relaxed) {
                    let (node, link) = (self.clone(), link.clone());
                    self.spawn("distrust", async move { node.distrust(&link).await });
                }
                if self.is_stale(&link)
                    && self.pool.holds(&link)
                    && !link.renewing.swap(true, Relaxed)
                {
                    let (node, at_once) = (self.clone(), at_once.clone());
                    self.spawn("renew", async move { node.renew(&link, &at_once).await });
                }
            }
        }
    }

    /// Makes another link in the place of one, until there is one.
    async fn renew(self: &Arc<Self>, link: &Arc<Link>, at_once: &Semaphore) {
        if self.me > link.peer && self.sleep_or_end(link, SECOND).await {
            return;
        }
        while self.pool.holds(link) && self.is_stale(link) {
            let made = {
                let Ok(_permit) = at_once.acquire().await else { return };
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    made = self.dial_instead(link) => made,
                }
            };
            match made {
                Ok(()) => return,
                Err(error) => {
                    seldom!(DEBUG, 10, target: "peerage::keys", peer = %link.peer.id, %error, "a link with the new keys was not made");
                    if self.sleep_or_end(link, AGAIN).await {
                        return;
                    }
                }
            }
        }
        link.renewing.store(false, Relaxed);
    }

    /// Whether the link or the node ended meanwhile.
    async fn sleep_or_end(&self, link: &Link, time: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => true,
            () = link.ended() => true,
            () = sleep(time) => false,
        }
    }

    /// Closes a link whose peer is believed no more, unless its keys are accepted again by then.
    async fn distrust(&self, link: &Arc<Link>) {
        let until = Instant::now() + DISTRUSTED_FOR;
        let late = tokio::select! {
            () = self.stop.cancelled() => false,
            () = link.ended() => false,
            () = sleep_until(until) => true,
        };
        link.distrusted.store(false, Relaxed);
        if late && !self.is_believed(link) {
            self.stats.distrusted.up();
            self.drop_link(link, LinkEnd::Closed("its keys are accepted no more".into()));
            link.close(Code::Untrusted);
        }
    }
}
