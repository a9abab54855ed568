//! Makes a failing list smaller while it goes on failing.
//!
//! Source: the minimising delta debugging of Zeller & Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002, without its step
//! of trying the parts alone: what fails here mostly needs several faults together.

/// Takes out as many elements as it can, in ever smaller runs of neighbours, such that `fails` still says yes. What is left cannot spare
/// any single element.
pub fn shrink<T: Clone>(mut list: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut run = list.len().div_ceil(2);
    while run > 0 {
        let mut at = 0;
        let mut shrank = false;
        while at < list.len() {
            let end = (at + run).min(list.len());
            let without: Vec<T> = list[..at].iter().chain(&list[end..]).cloned().collect();
            if fails(&without) {
                list = without;
                shrank = true;
            } else {
                at = end;
            }
        }
        // At single elements it goes on until none can be spared.
        run = if run == 1 { usize::from(shrank) } else { run.div_ceil(2) };
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_is_left() {
        let needs = |wanted: &'static [u32]| move |list: &[u32]| wanted.iter().all(|w| list.contains(w));
        assert_eq!(shrink((0..100).collect(), needs(&[3, 50, 51, 99])), [3, 50, 51, 99]);
        assert_eq!(shrink((0..100).collect(), needs(&[])), Vec::<u32>::new());
        assert_eq!(shrink(vec![7], needs(&[7])), [7]);
        assert_eq!(shrink(Vec::<u32>::new(), |_: &[u32]| true), Vec::<u32>::new());
    }

    #[test]
    fn an_element_that_can_be_spared_only_after_another_is_spared_too() {
        // 5 is needed as long as 9 is there.
        let fails = |list: &[u32]| list.contains(&1) && (list.contains(&5) || !list.contains(&9));
        assert_eq!(shrink((0..10).collect(), fails), [1]);
    }
}
