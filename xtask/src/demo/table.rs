//! The cluster as each process sees it: a row for each member, a column for each observer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style},
    text::{Line, Span, Text},
    widgets::{Block, Cell, Paragraph, Row as TableRow, Table},
};

use super::world::{Phase, Row, World};

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, world: &World, doing: &str) {
    let members = members(world);
    let table_height = u16::try_from(members.len() * 2 + 3).unwrap_or(u16::MAX);
    let figures = figures(world, usize::from(frame.area().width));
    let figures_height = u16::try_from(figures.len()).unwrap_or(u16::MAX);
    // At 80 by 24 with six members, four lines of events are left.
    let [head, table, requests, log] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(table_height),
        Constraint::Length(figures_height),
        Constraint::Min(3),
    ])
    .areas(frame.area());

    let head_line = Line::from(vec![
        Span::styled("peerage demo  ", Style::new().add_modifier(Modifier::BOLD)),
        Span::styled(doing.to_owned(), Style::new().fg(Color::Cyan)),
        Span::styled(format!("  {:.1} s", world.started.elapsed().as_secs_f64()), dim()),
    ]);
    frame.render_widget(Paragraph::new(head_line), head);
    frame.render_widget(cluster(world, &members), table);
    frame.render_widget(Paragraph::new(figures), requests);

    let room = usize::from(log.height.saturating_sub(2));
    let lines: Vec<Line<'_>> = world.log[world.log.len().saturating_sub(room)..]
        .iter()
        .map(|(at, line)| {
            Line::from(vec![Span::styled(format!("{at:>7} ms  "), dim()), line.as_str().into()])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" events ")), log);
}

fn cluster<'a>(world: &'a World, members: &BTreeSet<&'a str>) -> Table<'a> {
    let header = ["member", "tags"].into_iter().map(|name| Cell::from(name).style(dim())).chain(
        world.nodes.iter().map(|(id, node)| {
            let style = if node.phase == Phase::Down || node.closed { dim() } else { Style::new() };
            Cell::from(id.as_str()).style(style)
        }),
    );
    let rows = members.iter().map(|member| {
        let cells = [Cell::from(*member), Cell::from(tags(world, member)).style(dim())]
            .into_iter()
            .chain(world.nodes.values().map(|node| cell(node.view.get(*member))));
        TableRow::new(cells).height(2)
    });
    let widths = [Constraint::Length(9), Constraint::Length(12)]
        .into_iter()
        .chain(world.nodes.keys().map(|_| Constraint::Fill(1)));
    let title = " state (! unresponsive), incarnation and round trip, as each process sees them ";
    Table::new(rows, widths).header(TableRow::new(header)).block(Block::bordered().title(title))
}

fn cell(row: Option<&Row>) -> Cell<'static> {
    let Some(row) = row else { return Cell::from(Span::styled("·", dim())) };
    let color = match row.state.as_str() {
        "alive" => Color::Green,
        "suspect" => Color::Yellow,
        "failed" => Color::Red,
        _ => Color::DarkGray,
    };
    Cell::from(Text::from(vec![
        Line::styled(state(row), Style::new().fg(color)),
        Line::styled(format!("i{} {}", row.incarnation, rtt(row)), dim()),
    ]))
}

/// The requests: on one line if it is wide enough, else on two.
fn figures(world: &World, width: usize) -> Vec<Line<'static>> {
    let requests = &world.requests;
    let total = format!(
        "requests  sent {}  answered {}  failed over {}  lost {}",
        requests.sent, requests.answered, requests.failed_over, requests.lost
    );
    let mut by_worker = String::from("answered by");
    for (worker, count) in &requests.by_worker {
        let _ = write!(by_worker, "  {worker} {count}");
    }
    let both = format!("{total}  {by_worker}");
    if both.chars().count() <= width {
        vec![both.into()]
    } else {
        vec![total.into(), by_worker.into()]
    }
}

/// The same as plain text, each column as wide as it must be.
pub(super) fn text(world: &World) -> String {
    let mut columns = vec![vec!["member".to_owned()], vec!["tags".to_owned()]];
    columns.extend(world.nodes.keys().map(|id| vec![format!("{id} sees")]));
    let members = members(world);
    for member in &members {
        columns[0].push((*member).to_owned());
        columns[1].push(tags(world, member));
        for (column, node) in columns[2..].iter_mut().zip(world.nodes.values()) {
            column.push(node.view.get(*member).map_or_else(
                || "·".to_owned(),
                |row| {
                    format!("{} i{} {}", state(row), row.incarnation, rtt(row))
                        .trim_end()
                        .to_owned()
                },
            ));
        }
    }
    let width =
        |column: &Vec<String>| column.iter().map(|cell| cell.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for line in 0..=members.len() {
        let start = text.len();
        for column in &columns {
            let _ = write!(text, "{:<1$}  ", column[line], width(column));
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    }
    text
}

fn members(world: &World) -> BTreeSet<&str> {
    let seen = world.nodes.values().flat_map(|node| node.view.keys());
    world.nodes.keys().chain(seen).map(String::as_str).collect()
}

/// A member's tags as the first process that knows it sees them.
fn tags(world: &World, member: &str) -> String {
    let known: Option<&BTreeMap<String, String>> =
        world.nodes.values().find_map(|node| node.view.get(member)).map(|row| &row.tags);
    known
        .map(|tags| {
            tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        })
        .unwrap_or_default()
}

/// Short, as the round trip is.
fn state(row: &Row) -> String {
    format!("{}{}", row.state, if row.unresponsive { "!" } else { "" })
}

fn rtt(row: &Row) -> String {
    row.rtt_us.map_or_else(String::new, |us| {
        let tenths = us.div_ceil(100);
        // Short, since a column may have no more than eight places.
        if tenths < 100 {
            format!("{}.{}ms", tenths / 10, tenths % 10)
        } else {
            format!("{}ms", us.div_ceil(1000))
        }
    })
}

fn dim() -> Style {
    Style::new().fg(Color::DarkGray)
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::demo::world::tests::{say, view};

    fn world() -> World {
        let mut world = World::new();
        world.start("director", 0);
        world.start("w1", 0);
        say(&mut world, "director", 0, &view(&[("director", "alive"), ("w1", "suspect")]));
        world
    }

    #[test]
    fn the_table_shows_what_each_sees() {
        let mut terminal = Terminal::new(TestBackend::new(90, 24)).expect("a terminal");
        let world = world();
        terminal.draw(|frame| draw(frame, &world, "waiting")).expect("it draws");
        let screen = terminal.backend().to_string();
        for expected in
            ["member", "director", "w1", "suspect", "i3 0.5ms", "role=worker", "sent 0", "waiting"]
        {
            assert!(screen.contains(expected), "{expected:?} is missing in\n{screen}");
        }
    }

    #[test]
    fn a_tiny_terminal_is_no_panic() {
        let mut terminal = Terminal::new(TestBackend::new(5, 3)).expect("a terminal");
        let world = world();
        terminal.draw(|frame| draw(frame, &world, "waiting")).expect("it draws");
    }

    #[test]
    fn plain_text_has_a_row_for_each_member() {
        let text = text(&world());
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("suspect i3 0.5ms"), "{text}");
    }

    #[test]
    fn who_does_not_respond_is_marked() {
        let mut world = world();
        let view = view(&[("w1", "alive")]).replace("\"tags\"", "\"unresponsive\":true,\"tags\"");
        say(&mut world, "director", 0, &view);
        let text = text(&world);
        assert!(text.contains("alive! i3"), "{text}");
    }
}
