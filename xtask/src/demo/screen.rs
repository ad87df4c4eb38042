//! Where the demo shows what happens: a live table, plain lines, or nowhere.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
};

use super::{table, world::World};

/// The table is drawn again this often at most.
const FRAME: Duration = Duration::from_millis(80);

pub(crate) enum Screen {
    Live(Live),
    Lines(Lines),
    Quiet,
}

impl Screen {
    /// The live table, on standard output.
    pub(super) fn live() -> Result<Self> {
        // Also restores the terminal when something panics.
        Ok(Screen::Live(Live { terminal: ratatui::try_init()?, drawn: None }))
    }

    pub(super) fn lines_to_stdout() -> Self {
        Screen::Lines(Lines { out: Box::new(std::io::stdout()), printed: 0, doing: String::new() })
    }

    pub(super) fn lines_to_stderr() -> Self {
        Screen::Lines(Lines { out: Box::new(std::io::stderr()), printed: 0, doing: String::new() })
    }

    /// Shows how things stand; cheap enough for every input. An error if the user wants to stop.
    pub(super) fn show(&mut self, world: &World, doing: &str) -> Result<()> {
        match self {
            Screen::Live(live) => live.show(world, doing),
            Screen::Lines(lines) => lines.show(world, doing),
            Screen::Quiet => Ok(()),
        }
    }

    /// A chapter has ended: lines show the table once, the live table is always there.
    pub(super) fn chapter(&mut self, world: &World, doing: &str) -> Result<()> {
        self.show(world, doing)?;
        if let Screen::Lines(lines) = self {
            lines.out.write_all(table::text(world).as_bytes())?;
        }
        Ok(())
    }
}

pub(crate) struct Live {
    terminal: DefaultTerminal,
    drawn: Option<Instant>,
}

impl Live {
    fn show(&mut self, world: &World, doing: &str) -> Result<()> {
        // The terminal is in raw mode, so that ctrl-c is a key like any other.
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()?
                && key.kind == KeyEventKind::Press
            {
                let ctrl_c =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if ctrl_c || key.code == KeyCode::Char('q') {
                    bail!("interrupted");
                }
            }
        }
        if self.drawn.is_none_or(|drawn| drawn.elapsed() >= FRAME) {
            self.terminal.draw(|frame| table::draw(frame, world, doing))?;
            self.drawn = Some(Instant::now());
        }
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

pub(crate) struct Lines {
    out: Box<dyn Write>,
    printed: usize,
    doing: String,
}

impl Lines {
    fn show(&mut self, world: &World, doing: &str) -> Result<()> {
        for (at, line) in &world.log[self.printed..] {
            writeln!(self.out, "{at:>7} ms  {line}")?;
        }
        self.printed = world.log.len();
        if self.doing != doing {
            doing.clone_into(&mut self.doing);
            writeln!(self.out, "── {doing}")?;
        }
        self.out.flush()?;
        Ok(())
    }
}
