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
pub(crate) struct Table {
    /// Do the best rounds count, and not the middle ones?
    best: bool,
    measured: BTreeMap<Case, BTreeMap<Server, Vec<Measured>>>,
}

impl Table {
    /// An empty one.
    pub(crate) fn new(best: bool) -> Self {
        Self { best, measured: BTreeMap::new() }
    }

    /// Adds the result of one run.
    pub(crate) fn add(&mut self, case: Case, server: Server, measured: Measured) {
        self.measured.entry(case).or_default().entry(server).or_default().push(measured);
    }

    /// Prints what counts of each line, and a summary of the ratios.
    pub(crate) fn print(&self) {
        println!("Operations a second (processor time of the server for one, in µs); 'a × b': a connections, b deep.");
        println!();
        println!(
            "| operation | sockets | ninering | diod | unpfs | limit | × best peer | of limit | time: × best peer | goal |"
        );
        println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |");
        for (case, servers) in &self.measured {
            let show = |server| {
                let shown = |Measured { rate, cost }| format!("{rate:.0} ({cost:.1})");
                self.figure(servers, server).map_or("–".to_owned(), shown)
            };
            let [ours, diod, unpfs, limit] = [Server::Ninering, Server::Diod, Server::Unpfs, Server::Limit].map(show);
            let ratios = self.ratios(servers);
            let figure = |ratio: Option<f64>| ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
            let (faster, of_limit, cheaper) = (figure(ratios.faster), figure(ratios.of_limit), figure(ratios.cheaper));
            let verdict = ratios.verdict(case.kind);
            println!(
                "| {case} | {ours} | {diod} | {unpfs} | {limit} | {faster} | {of_limit} | {cheaper} | {verdict} |"
            );
        }
        println!();
        self.print_summary();
    }

    /// Prints, for each operation, the middle and the extremes of its lines' ratios.
    fn print_summary(&self) {
        println!("| operation | × best peer | of limit | time: × best peer |");
        println!("| --- | ---: | ---: | ---: |");
        for kind in Kind::ALL {
            let lines: Vec<_> =
                self.measured.iter().filter(|(case, _)| case.kind == kind).map(|(_, line)| self.ratios(line)).collect();
            let spread = |of: fn(&Ratios) -> Option<f64>| {
                let mut ratios: Vec<_> = lines.iter().filter_map(of).collect();
                ratios.sort_by(f64::total_cmp);
                match (ratios.first(), ratios.last()) {
                    (Some(least), Some(most)) => {
                        format!("{:.1} ({least:.1} – {most:.1})", ratios[ratios.len() / 2])
                    }
                    _ => "–".to_owned(),
                }
            };
            let (faster, of_limit, cheaper) =
                (spread(|line| line.faster), spread(|line| line.of_limit), spread(|line| line.cheaper));
            if !lines.is_empty() {
                println!("| {} | {faster} | {of_limit} | {cheaper} |", kind.name());
            }
        }
    }
}

impl Table {
    /// Each ratio is of what was measured in one round, within a second or two, before the middle one of the rounds counts:
    /// so a machine that is slower for a while is to all servers. Where the best counts, it is the ratio of the best.
    fn ratios(&self, servers: &BTreeMap<Server, Vec<Measured>>) -> Ratios {
        if self.best {
            return Ratios::of(|server| self.figure(servers, server));
        }
        let rounds = servers.values().map(Vec::len).max().unwrap_or_default();
        let of_rounds: Vec<_> =
            (0..rounds).map(|round| Ratios::of(|server| servers.get(&server)?.get(round).copied())).collect();
        let middle = |of: fn(&Ratios) -> Option<f64>| {
            let mut ratios: Vec<_> = of_rounds.iter().filter_map(of).collect();
            ratios.sort_by(f64::total_cmp);
            ratios.get(ratios.len() / 2).copied()
        };
        Ratios {
            faster: middle(|round| round.faster),
            of_limit: middle(|round| round.of_limit),
            cheaper: middle(|round| round.cheaper),
        }
    }

    /// What counts of a server's runs.
    fn figure(&self, servers: &BTreeMap<Server, Vec<Measured>>, server: Server) -> Option<Measured> {
        let runs = servers.get(&server)?;
        let sorted = |of: fn(&Measured) -> f64| {
            let mut values: Vec<_> = runs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let (rates, costs) = (sorted(|run| run.rate), sorted(|run| run.cost));
        let middle = runs.len() / 2;
        let (rate, cost) = if self.best { (rates.last()?, costs.first()?) } else { (&rates[middle], &costs[middle]) };
        Some(Measured { rate: *rate, cost: *cost })
    }
}

/// How a line's figures compare.
struct Ratios {
    /// The server's operations a second to the best peer's.
    faster: Option<f64>,
    /// The same to the limit's.
    of_limit: Option<f64>,
    /// The best peer's processor time to the server's.
    cheaper: Option<f64>,
}

impl Ratios {
    fn of(measured: impl Fn(Server) -> Option<Measured>) -> Self {
        let peers = || [Server::Diod, Server::Unpfs].into_iter().filter_map(&measured);
        let best = peers().map(|peer| peer.rate).max_by(f64::total_cmp);
        let cheapest = peers().map(|peer| peer.cost).min_by(f64::total_cmp);
        let ours = measured(Server::Ninering);
        let ratio = |above: Option<f64>, below: Option<f64>| Some(above? / below?);
        Self {
            faster: ratio(ours.map(|ours| ours.rate), best),
            of_limit: ratio(ours.map(|ours| ours.rate), measured(Server::Limit).map(|limit| limit.rate)),
            cheaper: ratio(cheapest, ours.map(|ours| ours.cost)),
        }
    }

    fn verdict(&self, kind: Kind) -> &'static str {
        let goal = if kind.is_data() { GOALS.1 } else { GOALS.0 };
        match (self.faster, self.of_limit) {
            (Some(faster), _) if faster >= goal => "met",
            (_, Some(part)) if part >= PART => "at the limit",
            (None, _) => "–",
            _ => "missed",
        }
    }
}
