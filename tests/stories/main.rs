//! End-to-end tests, one file per story.

mod a_customer_is_looked_up;
mod a_dead_service_is_named;
mod a_service_reaches_its_own_keys_alone;
mod a_service_sees_its_own_schema_alone;
mod a_standby_takes_over;
mod a_trace_crosses_every_process;
mod an_erased_customer_is_unreadable;
mod bad_input_is_refused_clearly;
mod callers_are_known;
mod callers_go_away;
mod clients_in_other_languages;
mod every_write_is_safe_to_repeat;
mod faults_of_the_libraries_stay_cured;
mod keys_turn;
mod nothing_tells_who_anyone_is;
mod points_are_money;
mod purchases_are_imported;
mod reads_see_what_was_written;
mod redis_is_ill_treated;
mod sections_are_bounded;
mod the_cache_is_never_wrong;
mod the_feed_loses_nothing;
mod tidy;
mod totals_equal_a_recount;
mod writers_do_not_lose_updates;
