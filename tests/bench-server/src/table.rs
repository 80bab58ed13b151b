//! The results: medians, their ratios, and whether the goals are met.

use std::{collections::BTreeMap, fmt};

use super::{
    load::Measured,
    operation::Kind,
    server::{Server, Transport},
};

/// How many times as fast as the best peer the server is to be: with metadata, and with data.
const GOALS: (f64, f64) = (2.0, 1.5);
/// What part of the limit is enough where the goal is beyond it.
const PART: f64 = 0.8;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    pub(crate) transport: Transport,
    pub(crate) connections: usize,
    pub(crate) depth: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Unix => "unix",
        };
        write!(formatter, "{} | {transport} {} × {}", self.kind.name(), self.connections, self.depth)
    }
}

/// All that was measured.
#[derive(Default)]
pub(crate) struct Table {
    measured: BTreeMap<Case, BTreeMap<Server, Vec<Measured>>>,
}

impl Table {
    /// Adds the result of one run.
    pub(crate) fn add(&mut self, case: Case, server: Server, measured: Measured) {
        self.measured.entry(case).or_default().entry(server).or_default().push(measured);
    }

    /// Prints the medians.
    pub(crate) fn print(&self) {
        println!("Operations a second (processor time of the server for one, in µs); 'a × b': a connections, b deep.");
        println!();
        println!(
            "| operation | sockets | ninering | diod | unpfs | limit | × best peer | of limit | time: × best peer | goal |"
        );
        println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |");
        for (case, servers) in &self.measured {
            let of = |server| servers.get(&server).map(|runs| medians(runs));
            let show = |server| {
                of(server).map_or("–".to_owned(), |Measured { rate, cost }| format!("{rate:.0} ({cost:.1})"))
            };
            let (ours, limit) = (of(Server::Ninering), of(Server::Limit));
            let peers = || [Server::Diod, Server::Unpfs].into_iter().filter_map(of);
            let best = peers().map(|peer| peer.rate).max_by(f64::total_cmp);
            let cheapest = peers().map(|peer| peer.cost).min_by(f64::total_cmp);
            let ratio = |above: Option<f64>, below: Option<f64>| Some(above? / below?);
            let rate = ours.map(|ours| ours.rate);
            let faster = ratio(rate, best);
            let of_limit = ratio(rate, limit.map(|limit| limit.rate));
            let cheaper = ratio(cheapest, ours.map(|ours| ours.cost));
            let goal = if case.kind.is_data() { GOALS.1 } else { GOALS.0 };
            let verdict = match (faster, of_limit) {
                (Some(faster), _) if faster >= goal => "met",
                (_, Some(part)) if part >= PART => "at the limit",
                (None, _) => "–",
                _ => "missed",
            };
            let figure = |ratio: Option<f64>| ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
            println!(
                "| {case} | {} | {} | {} | {} | {} | {} | {} | {verdict} |",
                show(Server::Ninering),
                show(Server::Diod),
                show(Server::Unpfs),
                show(Server::Limit),
                figure(faster),
                figure(of_limit),
                figure(cheaper),
            );
        }
    }
}

fn medians(runs: &[Measured]) -> Measured {
    let median = |of: fn(&Measured) -> f64| {
        let mut values: Vec<_> = runs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Measured { rate: median(|run| run.rate), cost: median(|run| run.cost) }
}
