"""Counts the test cases of one `bazel test` run.

Usage: test_results.py EVENTS BAZEL_STATUS [FAILED_CHECK...]

EVENTS is the file of --build_event_json_file: it names the test.xml of exactly the tests that
belong to the run, cached ones included. A test that failed without a failed case (a crash, a
timeout), a target that did not build and each FAILED_CHECK count as one failure. The last line of
the output is `N passed, N failed`; the exit status is 0 only if something ran and nothing failed.
"""

import json
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree


class Results:

    def __init__(self):
        self.passed = 0
        self.failed = []
        self.skipped = []

    def add_test(self, label, result):
        """Counts one run of one test target."""
        failures_before = len(self.failed)
        for suite, case in self._cases(result):
            name = f'{label} {suite}.{case.get("name")}'
            if case.get('status') == 'notrun':
                continue
            if case.get('result') == 'skipped' or case.find('skipped') is not None:
                self.skipped.append(name)
            elif case.find('failure') is not None or case.find('error') is not None:
                self.failed.append(name)
            else:
                self.passed += 1
        if result['status'] != 'PASSED' and len(self.failed) == failures_before:
            self.failed.append(f'{label} ({result["status"].lower()})')

    @staticmethod
    def _cases(result):
        for output in result.get('testActionOutput', []):
            if output['name'] != 'test.xml':
                continue
            path = urllib.parse.unquote(urllib.parse.urlparse(output['uri']).path)
            try:
                root = ElementTree.parse(path).getroot()
            except (OSError, ElementTree.ParseError) as error:
                print(f'cannot read {path}: {error}')
                return
            for suite in root.iter('testsuite'):
                for case in suite.findall('testcase'):
                    yield suite.get('name'), case


def read_events(path):
    try:
        with open(path, encoding='utf-8') as file:
            return [json.loads(line) for line in file if line.strip()]
    except (OSError, ValueError) as error:
        print(f'cannot read the events of the run: {error}')
        return []


def main():
    events_path, bazel_status, *failed_checks = sys.argv[1:]
    results = Results()
    for event in read_events(events_path):
        event_id = event['id']
        if 'testResult' in event_id and 'testResult' in event:
            results.add_test(event_id['testResult']['label'], event['testResult'])
        elif 'targetCompleted' in event_id and not event.get('completed', {}).get('success'):
            results.failed.append(f'{event_id["targetCompleted"]["label"]} (did not build)')
    if bazel_status != '0' and not results.failed:
        results.failed.append(f'bazel test (exit status {bazel_status})')
    results.failed += failed_checks

    for name in results.skipped:
        print(f'SKIPPED {name}')
    for name in results.failed:
        print(f'FAILED {name}')
    print(f'{results.passed} passed, {len(results.failed)} failed')
    return 0 if results.passed > 0 and not results.failed else 1


if __name__ == '__main__':
    sys.exit(main())
