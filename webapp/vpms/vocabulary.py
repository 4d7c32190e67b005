"""The 24 switches, the facts of the platform and the eight plain questions: the one place where each is named and worded.

Values stand strict to lax; that order serves display and tie-breaks and claims no more. A new switch is one entry here.
"""
# ruff: noqa: E501 - tables of sentences: one row, one line

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple


class Value(NamedTuple):
    """One setting of a switch: its name in documents, its short label and what it means for the owner."""

    name: str
    label: str
    consequence: str


class Switch(NamedTuple):
    """One security setting. Scope: V the VM's own, H one per host, P concerns neighbours, O the operator's behaviour."""

    name: str
    scope: str
    question: str
    label: str
    help: str
    values: tuple[Value, ...]
    answers: tuple[str, ...]  # the value that each answer of the question stands for, strictest answer first
    resource: frozenset[str] = frozenset()  # values that take something scarce
    declared_only: bool = False  # no analogue in the simulated machine: recorded, never shown as enforced
    unless_said: tuple[str, ...] | None = None  # what a host can do if its document does not say; None: everything

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(value.name for value in self.values)

    @property
    def shared_by_nature(self) -> bool:
        return self.scope in "HP"


class Answer(NamedTuple):
    name: str
    label: str
    consequence: str


class Question(NamedTuple):
    """One plain question; its answers stand strict to lax."""

    name: str
    text: str
    help: str
    why: str
    answers: tuple[Answer, ...]


class Fact(NamedTuple):
    """Inside one VM's view: if `switch` has one of `values`, then `then_switch` has one of `then_values`."""

    name: str
    switch: str
    values: frozenset[str]
    then_switch: str
    then_values: frozenset[str]
    published: bool  # true: a published property of the mechanism; false: a choice of this model


class Profile(NamedTuple):
    name: str
    label: str
    help: str
    answers: Mapping[str, Mapping[str, str]]


def _values(*rows: str) -> tuple[Value, ...]:
    """Rows read `name | label | consequence`."""
    return tuple(Value(*(part.strip() for part in row.split("|"))) for row in rows)


def _answers(*rows: str) -> tuple[Answer, ...]:
    return tuple(Answer(*(part.strip() for part in row.split("|"))) for row in rows)


_SWITCHES: Final[tuple[Switch, ...]] = (
    Switch("memory_protection", "V", "q1", "Memory protection", "What keeps the hypervisor out of this VM's memory.", _values(
        "snp_tdx | Encrypted and checked by the processor | Memory is encrypted by the processor; it can neither be moved, swapped nor taken back.",
        "hsvm | Guarded by H-SVM | Only the hardware changes page ownership; the hypervisor cannot read or remap your pages.",
        "sev | Encrypted by the processor | Memory is encrypted, but the hypervisor still decides which page stands where.",
        "none | Not protected | The hypervisor can read and change every page of this VM.",
    ), ("snp_tdx", "hsvm", "none"), frozenset({"snp_tdx", "sev"}), unless_said=("hsvm", "none")),
    Switch("page_sharing", "H", "q2", "Page sharing", "Whether identical pages are stored once for several VMs.", _values(
        "off | Never | Nobody can learn from shared pages what your VM holds; more memory is used.",
        "same_tenant | Among my own VMs | Only VMs of one tenant share pages; other tenants learn nothing.",
        "on | With anyone | Saves memory; a neighbour can find out by timing which pages you hold.",
    ), ("off", "same_tenant", "on")),
    Switch("balloon", "O", "q4", "Taking memory back", "Whether the host may ask this VM to give memory back.", _values(
        "none | No | The memory you asked for stays yours.",
        "ask | Ask me | The host must ask you each time.",
        "on | Yes | The host takes pages back when it needs them; your VM may slow down.",
    ), ("none", "ask", "on")),
    Switch("overcommit", "H", "q4", "Promising more memory than there is", "How much memory the host may promise in total.", _values(
        "none | Not at all | Every promised page exists.",
        "x125 | Up to a quarter more | When all VMs need their memory at once, some must wait or give back.",
        "x150 | Up to half more | More VMs fit on the host; shortage is more likely.",
    ), ("none", "x125", "x150")),
    Switch("swap", "O", "q5", "Swapping out", "Whether pages of this VM may be written to the host's disk.", _values(
        "never | Never | No page leaves memory; the host must keep all of it free for you.",
        "encrypted | Only sealed | Pages on disk are sealed with this VM's own key.",
        "plain | As they are | Whoever reads the host's disk reads your pages.",
    ), ("never", "encrypted", "encrypted", "plain"), frozenset({"never"})),
    Switch("hugepages", "V", "q7", "Page size", "How large the pages are that the host maps for this VM.", _values(
        "1g | 1 GiB | Fewest table look-ups; needs large reserved memory that cannot be swapped.",
        "2m | 2 MiB | Fewer table look-ups; needs reserved memory that cannot be swapped.",
        "4k | 4 KiB | The ordinary size; most flexible for the host.",
    ), ("1g", "4k", "4k"), frozenset({"1g", "2m"})),
    Switch("cpu_pinning", "V", "q3", "Own processor cores", "Whether this VM has cores that nobody else runs on.", _values(
        "dedicated | Own cores | No other VM runs on your cores; the host can take fewer VMs.",
        "shared | Shared cores | Cores are used in turn with other VMs.",
    ), ("dedicated", "shared", "shared", "shared"), frozenset({"dedicated"})),
    Switch("smt", "H", "q3", "Two threads on one core", "Whether two VMs may run on one core at the same moment.", _values(
        "off | Never | Closes the leaks between two threads of a core; the host computes less.",
        "core_scheduling | Only one tenant per core | Threads of a core run one tenant at a time.",
        "shared | With anyone | Best use of the cores; a neighbour on the same core can measure your VM.",
    ), ("off", "core_scheduling", "core_scheduling", "shared")),
    Switch("emulator_threads", "V", "q3", "Where the host's helpers run", "Cores of the host's own work for this VM.", _values(
        "isolated | On separate cores | The host's work never disturbs your cores.",
        "shared | On the same cores | The host's work for your VM takes time from it.",
    ), ("isolated", "shared", "shared", "shared"), declared_only=True),
    Switch("cache_partition", "V", "q3", "Own part of the cache", "Whether a part of the cache is this VM's alone.", _values(
        "exclusive | Own part | Neighbours cannot measure your use of the cache; it is a scarce part.",
        "shared | Shared | Neighbours share the whole cache with you.",
    ), ("exclusive", "shared", "shared", "shared"), frozenset({"exclusive"}), declared_only=True),
    Switch("mem_bandwidth", "V", "q3", "Reserved memory speed", "Whether a share of memory bandwidth is this VM's alone.", _values(
        "reserved | Reserved share | A busy neighbour cannot slow your memory.",
        "shared | Shared | A busy neighbour can slow your memory.",
    ), ("reserved", "shared", "shared", "shared"), frozenset({"reserved"}), declared_only=True),
    Switch("nested_virt", "P", "q3", "VMs inside VMs", "Whether VMs on this host may run VMs of their own.", _values(
        "off | No | A large part of the processor's interface stays closed to neighbours.",
        "on | Yes | VMs may run their own VMs; more of the hypervisor can be attacked.",
    ), ("off", "off", "off", "on")),
    Switch("mitigations", "H", "q7", "Protection against processor leaks", "How thoroughly traces are wiped when the core changes VMs.", _values(
        "full | At every change | Look-up buffers are emptied at each world switch; slowest.",
        "default | When the VM changes | Buffers are emptied when another VM comes to the core.",
        "off | Not wiped | Fastest; traces of one VM stay for the next to measure.",
    ), ("full", "default", "off")),
    Switch("pmu", "P", "q3", "Performance counters", "Whether VMs on this host may read the processor's counters.", _values(
        "off | No | Neighbours lose a fine measuring instrument.",
        "on | Yes | VMs can measure themselves, and with that a little of you.",
    ), ("off", "off", "off", "on")),
    Switch("introspection", "O", "q1", "Looking inside while it runs", "Whether the operator may read this VM's memory to inspect it.", _values(
        "none | Nobody | The operator cannot inspect the running VM.",
        "attested_probe | Only a proven probe | Only an inspection program whose identity is proved may look.",
        "full | The operator | The operator may read any page.",
    ), ("none", "attested_probe", "full")),
    Switch("core_dump", "O", "q1", "Memory dumps", "Whether the operator may store an image of this VM's memory.", _values(
        "never | Never | No image of the memory is made, not even after a crash.",
        "encrypted | Only sealed | Images are sealed with this VM's own key.",
        "allowed | Allowed | The operator can read everything in the image.",
    ), ("never", "encrypted", "allowed")),
    Switch("snapshot", "O", "q6", "Snapshots", "Whether the operator may store the state of this VM.", _values(
        "never | Never | The VM cannot be rolled back to an earlier state by the host.",
        "encrypted | Only sealed | Snapshots are sealed with this VM's own key.",
        "allowed | Allowed | The operator can store and read the whole state.",
    ), ("never", "encrypted", "allowed")),
    Switch("live_migration", "O", "q6", "Moving while it runs", "Whether the operator may move this VM to another host.", _values(
        "never | Never | The VM stays where it started; maintenance of the host stops it.",
        "same_zone_attested | Only to a proven host nearby | It moves only within its zone, to a host that proves what it runs.",
        "precopy | To any host, copied first | It may move anywhere; it runs on only when everything is copied.",
        "postcopy | To any host, at once | It moves at once and fetches memory later; if the link fails the VM is lost.",
    ), ("never", "same_zone_attested", "postcopy")),
    Switch("disk_encryption", "V", "q5", "Disk encryption", "Who holds the key of this VM's disk.", _values(
        "tenant_key | My key | Only you can open the disk.",
        "provider_key | The provider's key | A stolen disk is safe; the provider can open it.",
        "none | No encryption | Whoever has the disk reads it.",
    ), ("tenant_key", "tenant_key", "provider_key", "none"), declared_only=True),
    Switch("vtpm", "V", "q8", "Virtual security chip", "Whether the VM has a chip that proves what it started.", _values(
        "encrypted | With sealed state | Start-up can be proved and the chip's state is sealed.",
        "plain | With open state | Start-up can be proved; the operator can read the chip's state.",
        "none | None | Start-up of this VM cannot be proved.",
    ), ("encrypted", "plain", "none"), declared_only=True),
    Switch("secure_boot", "V", "q8", "Signed start-up only", "Whether the VM starts only signed software.", _values(
        "required | Required | Unsigned start-up software is refused.",
        "optional | Not required | Any start-up software runs.",
    ), ("required", "optional", "optional"), declared_only=True),
    Switch("network_isolation", "V", "q3", "Network", "How far this VM's network is kept apart from neighbours.", _values(
        "isolated | Kept apart | No neighbour reaches this VM over the host's network.",
        "filtered | Filtered | Only allowed connections pass.",
        "open | Open | Neighbours reach this VM like any other machine.",
    ), ("isolated", "filtered", "filtered", "open"), declared_only=True),
    Switch("co_residence", "P", "q3", "Who else is on the host", "Which other VMs may run on the same host.", _values(
        "dedicated_host | Nobody | The whole host is yours; it costs most.",
        "same_tenant | Only my own VMs | No other tenant is on the host.",
        "same_class | VMs of the same trust class | Neighbours belong to the same class as you.",
        "any | Anyone | Any VM may be your neighbour.",
    ), ("dedicated_host", "same_tenant", "same_class", "any")),
    Switch("audit_level", "O", "q8", "Event record", "How much is written down about what the host does to this VM.", _values(
        "full | Every event with page numbers | You can prove exactly what was done; the record shows your memory use.",
        "metadata | Kinds and counts | You can prove what kind of thing was done, and how often.",
        "none | Only refusals and breaches | Nothing is recorded as long as all goes well.",
    ), ("full", "metadata", "none")),
)  # fmt: skip

SWITCHES: Final[Mapping[str, Switch]] = {switch.name: switch for switch in _SWITCHES}
ORDER: Final[Mapping[str, int]] = {name: index for index, name in enumerate(SWITCHES)}
DECLARED_ONLY: Final = frozenset(switch.name for switch in _SWITCHES if switch.declared_only)
PER_VM: Final = tuple(switch.name for switch in _SWITCHES if not switch.shared_by_nature)

_QUESTIONS: Final[tuple[Question, ...]] = (
    Question("q1", "Who may look inside this VM (memory, dumps)?", "Covers reading memory while it runs and images of it.",
             "Whoever reads memory reads passwords and keys, encrypted disk or not.", _answers(
        "nobody | Nobody | Neither neighbours nor the operator can read this VM's memory; no image of it is ever made.",
        "proven | Only a proven probe, sealed dumps | A program whose identity is proved may look; dumps are sealed with your key.",
        "operator | The operator | The operator can read and dump the memory, for example to look for faults.",
    )),
    Question("q2", "May identical pages be shared: never, among my own VMs, with anyone?", "Sharing saves memory and tells neighbours something.",
             "Sharing is one setting for the whole host, so neighbours must agree on it.", _answers(
        "never | Never | Nobody learns from shared pages what this VM holds.",
        "own | Among my own VMs | Other tenants learn nothing; your own VMs save memory.",
        "anyone | With anyone | Memory is saved; a neighbour can find out which pages you hold.",
    )),
    Question("q3", "Who may run beside this VM, and how close?", "Covers the host, its cores, caches, network and what neighbours may do.",
             "Most leaks between VMs need a neighbour on the same core, cache or host.", _answers(
        "nobody | Nobody | The whole host, with its cores and caches, is this VM's alone.",
        "own | Only my own VMs | No other tenant runs on this host.",
        "class | VMs of the same trust class, one tenant per core | Others may be on the host, but never on your core at the same moment.",
        "anyone | Anyone, as close as the host likes | Best use of the machine; neighbours can measure some of what you do.",
    )),
    Question("q4", "May the host take memory back, or promise more than it has: no, ask me, yes?", "Covers memory that you have and memory that is promised.",
             "Memory taken back makes a VM slow, and the host learns what it needs.", _answers(
        "no | No | Every page you asked for exists and stays yours.",
        "ask | Ask me | The host asks before it takes memory; it may promise a quarter more than it has.",
        "yes | Yes | The host may take memory back and promise half more than it has.",
    )),
    Question("q5", "If content is stored, must it be encrypted, and with whose key?", "Covers pages on the host's disk and the VM's own disk.",
             "Stored content outlives the VM.", _answers(
        "nothing | Memory is never stored; disk with my key | No page of memory leaves memory; only you can open the disk.",
        "mine | Encrypted with my key | Pages and disk are sealed with keys of yours.",
        "provider | Encrypted, the provider's key will do | A stolen disk is safe; the provider can open it.",
        "plain | Need not be encrypted | Whoever has the disk reads everything.",
    )),
    Question("q6", "May the operator snapshot or move this VM?", "Covers stored states and moving to another host while it runs.",
             "A snapshot can be read or rolled back; a move changes who your neighbours are.", _answers(
        "never | Never | The VM stays as it is and where it is; maintenance of the host stops it.",
        "guarded | Only sealed, and only to a proven host nearby | Snapshots are sealed with your key; moves stay within the zone.",
        "always | Yes, as needed | The operator may store and move the VM at any time.",
    )),
    Question("q7", "Speed or protection (three steps)?", "How thoroughly traces are wiped between VMs.",
             "Wiping is one setting for the whole host and costs everybody speed.", _answers(
        "protection | Protection | Traces are wiped at every change; programs run more slowly.",
        "balanced | Balanced | Traces are wiped when another VM comes to the core.",
        "speed | Speed | Nothing is wiped; a following VM can measure traces of yours.",
    )),
    Question("q8", "What proof do you want?", "Covers the event record and proofs of what was started.",
             "Without a record a breach cannot be proved.", _answers(
        "full | Everything, with page numbers | Each act of the host and the start of the VM can be proved.",
        "kinds | Kinds and counts | What was done can be proved, not where.",
        "none | None | Only refusals and breaches are recorded.",
    )),
)  # fmt: skip

QUESTIONS: Final[Mapping[str, Question]] = {question.name: question for question in _QUESTIONS}


def switches_of(question: str) -> Sequence[Switch]:
    """The switches that a question sets, in switch order."""
    return [switch for switch in _SWITCHES if switch.question == question]


def _fact(name: str, switch: str, values: str, then_switch: str, then_values: str, published: bool = False) -> Fact:
    return Fact(name, switch, frozenset(values.split()), then_switch, frozenset(then_values.split()), published)


FACTS: Final[tuple[Fact, ...]] = (
    _fact("F01", "memory_protection", "snp_tdx sev", "overcommit", "none", True),
    _fact("F02", "memory_protection", "snp_tdx sev", "balloon", "none", True),
    _fact("F03", "memory_protection", "snp_tdx sev", "swap", "never", True),
    _fact("F04", "memory_protection", "snp_tdx sev", "live_migration", "never", True),
    _fact("F05", "memory_protection", "snp_tdx hsvm sev", "core_dump", "never encrypted"),
    _fact("F06", "memory_protection", "snp_tdx hsvm sev", "introspection", "none attested_probe"),
    _fact("F07", "memory_protection", "snp_tdx sev", "snapshot", "never", True),
    _fact("F08", "memory_protection", "snp_tdx hsvm sev", "page_sharing", "off"),
    _fact("F09", "memory_protection", "hsvm", "swap", "never encrypted"),
    _fact("F10", "memory_protection", "hsvm", "snapshot", "never encrypted"),
    _fact("F11", "memory_protection", "hsvm", "live_migration", "never same_zone_attested"),
    _fact("F12", "memory_protection", "snp_tdx", "nested_virt", "off"),
    _fact("F13", "hugepages", "1g 2m", "swap", "never"),
    _fact("F14", "hugepages", "1g 2m", "live_migration", "never same_zone_attested precopy"),
    _fact("F15", "emulator_threads", "isolated", "cpu_pinning", "dedicated"),
    _fact("F16", "cache_partition", "exclusive", "cpu_pinning", "dedicated"),
    _fact("F17", "introspection", "attested_probe full", "audit_level", "full metadata"),
)


class Resource(NamedTuple):
    """Something scarce: the switch that decides its use, the values that take it and the member that says how much."""

    name: str
    switch: str
    values: frozenset[str]
    amount: str | None  # member of the policy's size; None: one
    capacity: str  # member of the host's capacity


def _resource(name: str, switch: str, values: str, amount: str | None, capacity: str | None = None) -> Resource:
    return Resource(name, switch, frozenset(values.split()), amount, capacity or name)


RESOURCES: Final[tuple[Resource, ...]] = (
    _resource("cores", "cpu_pinning", "dedicated", "vcpus"),
    _resource("key_slots", "memory_protection", "snp_tdx sev", None),
    _resource("cache_ways", "cache_partition", "exclusive", "cache_ways"),
    _resource("bandwidth_pct", "mem_bandwidth", "reserved", "bandwidth_pct"),
    _resource("hugepage_mib", "hugepages", "1g 2m", "memory_mib"),
    _resource("locked_mib", "swap", "never", "memory_mib", "memory_mib"),
)

OVERCOMMIT_PERCENT: Final[Mapping[str, int]] = {"none": 100, "x125": 125, "x150": 150}

STRENGTHS: Final[Mapping[str, int]] = {"must": 3, "prefer": 2, "dont_mind": 0}


def _profile(name: str, label: str, help: str, rows: str) -> Profile:
    """Rows read `question answer strength`."""
    answers = {row[0]: {"answer": row[1], "strength": row[2]} for row in (line.split() for line in rows.split(","))}
    return Profile(name, label, help, answers)


PROFILES: Final[tuple[Profile, ...]] = (
    _profile("confidential", "Confidential", "The best protection that this host supports.",
             "q1 nobody must, q2 never must, q3 class prefer, q4 no prefer, q5 mine must, q6 never prefer, q7 protection prefer, q8 full prefer"),
    _profile("balanced", "Balanced", "Guarded memory, ordinary neighbours, moves to proven hosts.",
             "q1 proven prefer, q2 never prefer, q3 class prefer, q4 ask prefer, q5 mine prefer, q6 guarded prefer, q7 balanced prefer, q8 kinds prefer"),
    _profile("speed", "Speed first", "As fast and as flexible for the host as possible.",
             "q2 anyone prefer, q3 anyone prefer, q4 yes prefer, q6 always prefer, q7 speed must"),
    _profile("teaching", "Teaching", "Nothing secret inside; everything may be watched and recorded.",
             "q1 operator prefer, q6 always prefer, q7 balanced prefer, q8 full must"),
)  # fmt: skip
