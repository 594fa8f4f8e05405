"""All checks, and how they are run: each through every proxy at the same time."""

import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tests.proxies import faults, main_path
from tests.proxies.faults import Sites
from tests.proxies.site import Site


@contextmanager
def all_well(sites: Sites) -> Iterator[None]:
    """All servers run."""
    yield


@dataclass(frozen=True)
class Check:
    """Something that must hold through each proxy, while the servers behind are in the state that `during` brings about."""

    run: Callable[[Site], None]
    during: Callable[[Sites], AbstractContextManager[None]] = all_well

    @property
    def name(self) -> str:
        return self.run.__name__

    def everywhere(self, sites: Sites) -> dict[str, str]:
        """Run it through all proxies at once; returns what went wrong, by the proxy's name."""
        with self.during(sites), ThreadPoolExecutor(len(sites)) as pool:
            results = pool.map(self.problem, sites.values())
            return {name: problem for name, problem in zip(sites, results, strict=True) if problem}

    def problem(self, site: Site) -> str:
        """What went wrong through this proxy; empty if nothing did."""
        try:
            self.run(site)
        except Exception:
            return traceback.format_exc()
        return ""


CHECKS = [
    Check(main_path.people_sign_up_in_and_out_and_their_cookies_are_for_https_only),
    Check(main_path.each_event_comes_when_it_is_sent),
    Check(main_path.each_event_of_a_post_comes_when_it_is_sent),
    Check(main_path.a_stop_over_the_websocket_closes_the_model_call_and_returns_the_receipt),
    Check(main_path.a_stop_by_post_closes_the_model_call),
    Check(main_path.sockets_of_other_origins_are_refused),
    Check(main_path.what_clients_say_about_themselves_changes_nothing),
    Check(main_path.a_big_request_is_refused_with_413),
    Check(main_path.static_files_are_compressed_and_kept_for_ever),
    Check(main_path.neither_streams_nor_pages_are_compressed),
    Check(faults.a_stream_that_was_cut_goes_on_from_the_last_id),
    Check(faults.a_reader_that_leaves_is_missed_at_once),
    Check(faults.a_restart_of_the_proxy_in_mid_stream_loses_nothing),
    Check(faults.a_process_that_is_gone_is_noticed_by_nobody, during=faults.a_process_gone),
    Check(faults.while_a_process_leaves_no_question_is_lost_or_asked_twice, during=faults.a_process_leaving),
]
