//! Each key is taken from one copy.

use proto::{Key, Span};

/// Who takes what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cover {
    /// What each claim is given, in key order; nothing where all of it was taken before.
    pub taken: Vec<Vec<Span>>,
    /// What nobody claims.
    pub uncovered: Vec<Span>,
}

/// Divides the key space among claims, of which the earlier ones take precedence.
pub fn cover(claims: &[Span]) -> Cover {
    let mut uncovered = vec![Span::all()];
    let mut taken = Vec::with_capacity(claims.len());
    for claim in claims {
        taken.push(uncovered.iter().map(|free| free.intersect(claim)).filter(|span| !span.is_empty()).collect());
        uncovered = uncovered.iter().flat_map(|free| without(free, claim)).collect();
    }
    Cover { taken, uncovered }
}

/// What is left of a span: up to two parts.
pub fn without(span: &Span, taken: &Span) -> Vec<Span> {
    if !span.overlaps(taken) {
        return vec![span.clone()];
    }
    let left = Span { start: span.start.clone(), end: least(&taken.start, &span.end) };
    let right = Span { start: taken.end.clone().max(span.start.clone()), end: span.end.clone() };
    [left, right].into_iter().filter(|part| !part.is_empty()).collect()
}

fn least(a: &Key, b: &Key) -> Key {
    a.min(b).clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_lagging_copy_fills_what_the_newer_ones_leave() {
        let (wide, right) = (Span::new("a", "z"), Span::new("m", "p"));
        let cover = cover(&[right.clone(), wide]);
        assert_eq!(cover.taken, [vec![right], vec![Span::new("a", "m"), Span::new("p", "z")]]);
        assert_eq!(cover.uncovered, [Span::new("", "a"), Span { start: Key::from("z"), end: Key::max() }]);
    }

    proptest! {
        #[test]
        fn every_key_is_taken_once_or_uncovered(claims in prop::collection::vec((0u8..30, 0u8..30), 0..12), key in 0u8..30) {
            let spans: Vec<Span> = claims.iter().map(|(a, b)| Span { start: Key(vec![*a]), end: Key(vec![*b]) }).collect();
            let cover = cover(&spans);
            let key = Key(vec![key]);
            let takers: Vec<usize> =
                (0..spans.len()).filter(|n| cover.taken[*n].iter().any(|span| span.contains(&key))).collect();
            let first = spans.iter().position(|span| span.contains(&key));
            prop_assert_eq!(takers, first.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(cover.uncovered.iter().any(|span| span.contains(&key)), first.is_none());
        }
    }
}
