//! A running node, as `peerage.Cluster` holds it.

use parking_lot::Mutex;
use peerage::{
    Cluster, Result, Secret,
    boundary::{self, Face, Gate, SharedStream, Value, guarded},
};
use pyo3::{
    prelude::*,
    types::{PyDict, PyList},
};

use crate::{
    calls::{self, Call},
    convert::from_python,
    described::{Member, Stats},
    events::Subscription,
    failure::{OrRaise, exception},
    handlers,
    port::{Outcome, Port},
    process::Local,
};

const FACE: Face = Face::PYTHON;

/// A new cluster secret, as text.
#[pyfunction]
pub(crate) fn generate_secret(py: Python<'_>) -> PyResult<String> {
    guarded(|| Ok(Secret::generate().to_text())).or_raise(py)
}

/// Begins to start a node.
#[pyfunction]
pub(crate) fn start(
    py: Python<'_>,
    port: &Port,
    ticket: u64,
    config: &Bound<'_, PyDict>,
) -> PyResult<Call> {
    let mut given = Vec::with_capacity(config.len());
    for (name, value) in config.iter() {
        given.push((name.extract()?, from_python(&value)?));
    }
    let config = guarded(|| FACE.config(given)).or_raise(py)?;
    calls::begin(py, port, ticket, async move {
        boundary::start(config).await.map(|(cluster, gate)| Outcome::Node(cluster, gate))
    })
}

/// A handle to a node. Dropping it stops the node, without waiting and without a goodbye.
#[pyclass(frozen, weakref, module = "peerage._native")]
pub(crate) struct Node {
    cluster: Local<Cluster>,
    /// Until the program had its turn to add handlers.
    gate: Local<Mutex<Option<Gate>>>,
}

impl Node {
    pub(crate) fn new(cluster: Cluster, gate: Gate) -> Self {
        Self { cluster: Local::new(cluster), gate: Local::new(Mutex::new(Some(gate))) }
    }

    /// A look at the node that does not wait.
    fn look<T>(&self, py: Python<'_>, look: impl FnOnce(&Cluster) -> Result<T>) -> PyResult<T> {
        guarded(|| look(self.cluster.get()?)).or_raise(py)
    }
}

fn members(
    py: Python<'_>,
    all: Vec<std::sync::Arc<peerage::Member>>,
) -> PyResult<Bound<'_, PyList>> {
    PyList::new(py, all.into_iter().map(Member))
}

#[pymethods]
impl Node {
    /// Lets the node join others, who see it from then on.
    fn open(&self, py: Python<'_>) -> PyResult<()> {
        let opened = |gate: &Mutex<Option<Gate>>| drop(gate.lock().take());
        guarded(|| self.gate.get().map(opened)).or_raise(py)
    }

    fn local(&self, py: Python<'_>) -> PyResult<Member> {
        self.look(py, |cluster| Ok(Member(cluster.local())))
    }

    fn addr(&self, py: Python<'_>) -> PyResult<String> {
        self.look(py, |cluster| Ok(cluster.addr().to_string()))
    }

    fn bound_addr(&self, py: Python<'_>) -> PyResult<String> {
        self.look(py, |cluster| Ok(cluster.bound_addr().to_string()))
    }

    fn members<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        members(py, self.look(py, |cluster| Ok(cluster.members()))?)
    }

    fn get(&self, py: Python<'_>, id: &Bound<'_, PyAny>) -> PyResult<Option<Member>> {
        let id = from_python(id)?;
        self.look(py, |cluster| Ok(cluster.get(&FACE.text("id", id)?).map(Member)))
    }

    fn members_with<'py>(
        &self,
        py: Python<'py>,
        tags: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let tags = from_python(tags)?;
        let found = self.look(py, |cluster| {
            let tags: Vec<_> = FACE.tags("tags", tags)?.into_iter().collect();
            Ok(cluster.members_with(&tags))
        })?;
        members(py, found)
    }

    fn stats(&self, py: Python<'_>) -> PyResult<Stats> {
        self.look(py, |cluster| Ok(Stats(cluster.stats().into())))
    }

    /// Why the node has ended, as an exception; `None` while it runs.
    fn closed(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let error = self.look(py, |cluster| Ok(cluster.closed()))?;
        Ok(error.map(|error| exception(py, &error).into_value(py).into_any()))
    }

    fn events(&self, py: Python<'_>) -> PyResult<Subscription> {
        self.look(py, |cluster| Ok(Subscription::new(cluster.events())))
    }

    fn join(
        &self,
        py: Python<'_>,
        port: &Port,
        ticket: u64,
        deadline: &Bound<'_, PyAny>,
    ) -> PyResult<Call> {
        let deadline = from_python(deadline)?;
        let (cluster, deadline) =
            self.look(py, |cluster| Ok((cluster.clone(), FACE.deadline("deadline", deadline)?)))?;
        calls::begin(py, port, ticket, async move {
            cluster.join(deadline).await.map(|()| Outcome::Nothing)
        })
    }

    fn set_tags(
        &self,
        py: Python<'_>,
        port: &Port,
        ticket: u64,
        tags: &Bound<'_, PyAny>,
    ) -> PyResult<Call> {
        let tags = from_python(tags)?;
        let (cluster, tags) =
            self.look(py, |cluster| Ok((cluster.clone(), FACE.tags("tags", tags)?)))?;
        calls::begin(py, port, ticket, async move {
            cluster.set_tags(tags).await.map(|()| Outcome::Nothing)
        })
    }

    fn update_tag(
        &self,
        py: Python<'_>,
        port: &Port,
        ticket: u64,
        key: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<Call> {
        let (key, value) = (from_python(key)?, from_python(value)?);
        let (cluster, key, value) = self.look(py, |cluster| {
            Ok((cluster.clone(), FACE.text("key", key)?, FACE.text("value", value)?))
        })?;
        calls::begin(py, port, ticket, async move {
            cluster.update_tag(&key, &value).await.map(|()| Outcome::Nothing)
        })
    }

    fn remove_tag(
        &self,
        py: Python<'_>,
        port: &Port,
        ticket: u64,
        key: &Bound<'_, PyAny>,
    ) -> PyResult<Call> {
        let key = from_python(key)?;
        let (cluster, key) =
            self.look(py, |cluster| Ok((cluster.clone(), FACE.text("key", key)?)))?;
        calls::begin(
            py,
            port,
            ticket,
            async move { cluster.remove_tag(&key).await.map(Outcome::Flag) },
        )
    }

    fn set_secrets(&self, py: Python<'_>, secrets: &Bound<'_, PyAny>) -> PyResult<()> {
        let secrets = from_python(secrets)?;
        self.look(py, |cluster| cluster.set_secrets(&FACE.secrets("secrets", secrets)?))
    }

    fn reload_certificates(&self, py: Python<'_>, port: &Port, ticket: u64) -> PyResult<Call> {
        let cluster = self.look(py, |cluster| Ok(cluster.clone()))?;
        calls::begin(py, port, ticket, async move {
            cluster.reload_certificates().await.map(|()| Outcome::Nothing)
        })
    }

    fn explain(
        &self,
        py: Python<'_>,
        port: &Port,
        ticket: u64,
        id: &Bound<'_, PyAny>,
    ) -> PyResult<Call> {
        let id = from_python(id)?;
        let (cluster, id) = self.look(py, |cluster| Ok((cluster.clone(), FACE.text("id", id)?)))?;
        calls::begin(
            py,
            port,
            ticket,
            async move { cluster.explain(&id).await.map(Outcome::Explained) },
        )
    }

    /// Asks the port's loop from now on, under this number, whether it responds, until the loop or
    /// the node has ended.
    fn watch_loop(&self, py: Python<'_>, port: &Port, number: u64) -> PyResult<()> {
        let mailbox = port.mailbox().or_raise(py)?;
        let mut questions = self.look(py, |cluster| Ok(cluster.loop_questions()))?;
        let closed = mailbox.closed();
        let ask = async move {
            while let Some(question) = questions.next().await {
                if !mailbox.question(number, question) {
                    return;
                }
            }
        };
        let watch = async move {
            tokio::select! {
                () = ask => {}
                () = closed => {}
            }
            Ok(())
        };
        guarded(|| Ok(boundary::run(watch, |_| {}))).or_raise(py)?;
        Ok(())
    }

    /// The loop's answer.
    fn answer_loop(&self, py: Python<'_>, question: u64) -> PyResult<()> {
        self.look(py, |cluster| {
            cluster.answer_loop(question);
            Ok(())
        })
    }

    #[expect(clippy::too_many_arguments, reason = "they are what a request has")]
    fn request(
        &self,
        py: Python<'_>,
        port: &Port,
        ticket: u64,
        target: &Bound<'_, PyAny>,
        topic: &Bound<'_, PyAny>,
        payload: &Bound<'_, PyAny>,
        deadline: &Bound<'_, PyAny>,
    ) -> PyResult<Call> {
        let address = (from_python(target)?, from_python(topic)?, from_python(payload)?);
        let deadline = from_python(deadline)?;
        let (cluster, (target, topic, payload), deadline) = self.look(py, |cluster| {
            Ok((cluster.clone(), addressed(address)?, FACE.deadline("deadline", deadline)?))
        })?;
        calls::begin(py, port, ticket, async move {
            cluster.request(&target, &topic, payload, deadline).await.map(Outcome::Bytes)
        })
    }

    #[expect(clippy::too_many_arguments, reason = "they are what a message has")]
    fn send(
        &self,
        py: Python<'_>,
        port: &Port,
        ticket: u64,
        target: &Bound<'_, PyAny>,
        topic: &Bound<'_, PyAny>,
        payload: &Bound<'_, PyAny>,
        deadline: &Bound<'_, PyAny>,
    ) -> PyResult<Call> {
        let address = (from_python(target)?, from_python(topic)?, from_python(payload)?);
        let deadline = from_python(deadline)?;
        let (cluster, (target, topic, payload), deadline) = self.look(py, |cluster| {
            Ok((cluster.clone(), addressed(address)?, FACE.deadline("deadline", deadline)?))
        })?;
        calls::begin(py, port, ticket, async move {
            cluster.send(&target, &topic, payload, deadline).await.map(|()| Outcome::Nothing)
        })
    }

    /// Sends requests for a topic to a port, under the handler's number.
    fn handle(
        &self,
        py: Python<'_>,
        port: &Port,
        handler: u64,
        topic: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let topic = from_python(topic)?;
        let mailbox = port.mailbox().or_raise(py)?;
        self.look(py, |cluster| {
            let topic = FACE.text("topic", topic)?;
            cluster.handle(&topic, move |request| handlers::ask(mailbox.clone(), handler, request))
        })
    }

    fn unhandle(&self, py: Python<'_>, topic: &Bound<'_, PyAny>) -> PyResult<bool> {
        let topic = from_python(topic)?;
        self.look(py, |cluster| Ok(cluster.unhandle(&FACE.text("topic", topic)?)))
    }

    fn open_stream(
        &self,
        py: Python<'_>,
        port: &Port,
        ticket: u64,
        target: &Bound<'_, PyAny>,
        topic: &Bound<'_, PyAny>,
        deadline: &Bound<'_, PyAny>,
    ) -> PyResult<Call> {
        let (target, topic) = (from_python(target)?, from_python(topic)?);
        let deadline = from_python(deadline)?;
        let (cluster, target, topic, deadline) = self.look(py, |cluster| {
            let (target, topic) = (FACE.text("target", target)?, FACE.text("topic", topic)?);
            Ok((cluster.clone(), target, topic, FACE.deadline("deadline", deadline)?))
        })?;
        calls::begin(py, port, ticket, async move {
            let stream = cluster.open_stream(&target, &topic, deadline).await?;
            Ok(Outcome::Stream(SharedStream::new(stream)))
        })
    }

    /// Sends streams for a topic to a port, under the handler's number.
    fn handle_streams(
        &self,
        py: Python<'_>,
        port: &Port,
        handler: u64,
        topic: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let topic = from_python(topic)?;
        let mailbox = port.mailbox().or_raise(py)?;
        self.look(py, |cluster| {
            let topic = FACE.text("topic", topic)?;
            cluster.handle_streams(&topic, move |stream| {
                let mailbox = mailbox.clone();
                SharedStream::serve(stream, move |stream| handlers::take(mailbox, handler, stream))
            })
        })
    }

    fn unhandle_streams(&self, py: Python<'_>, topic: &Bound<'_, PyAny>) -> PyResult<bool> {
        let topic = from_python(topic)?;
        self.look(py, |cluster| Ok(cluster.unhandle_streams(&FACE.text("topic", topic)?)))
    }

    fn leave(&self, py: Python<'_>, port: &Port, ticket: u64) -> PyResult<Call> {
        let cluster = self.look(py, |cluster| Ok(cluster.clone()))?;
        calls::begin(py, port, ticket, async move { cluster.leave().await.map(Outcome::Report) })
    }

    fn shutdown_now(&self, py: Python<'_>, port: &Port, ticket: u64) -> PyResult<Call> {
        let cluster = self.look(py, |cluster| Ok(cluster.clone()))?;
        calls::begin(
            py,
            port,
            ticket,
            async move { cluster.shutdown_now().await.map(Outcome::Report) },
        )
    }
}

/// The arguments that requests and messages share, in the order in which they are given.
fn addressed(
    (target, topic, payload): (Value, Value, Value),
) -> Result<(String, String, bytes::Bytes)> {
    Ok((
        FACE.text("target", target)?,
        FACE.text("topic", topic)?,
        FACE.payload("payload", payload)?,
    ))
}
