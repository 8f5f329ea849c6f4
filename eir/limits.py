"""Every cap of the engine, with its unit in the name. Holds numbers only; imports nothing of ours.

A length that comes from outside is checked against one of these before anything is allocated.
"""

from typing import Final

# Identities
IMEI_DIGITS: Final = 14
MAX_IMEI_KEY: Final = 99_999_999_999_999
TAC_DIGITS: Final = 8
SERIAL_SPAN_KEYS: Final = 1_000_000
MIN_MSISDN_DIGITS: Final = 5
MAX_MSISDN_DIGITS: Final = 15
MIN_IMSI_DIGITS: Final = 5
MAX_IMSI_DIGITS: Final = 15
MAX_TYPED_CHARS: Final = 64

# Decision
MAX_BLACK_REASONS: Final = 64
MAX_REASON_NAME_CHARS: Final = 32
FIRST_FEED_REASON_ID: Final = 256
MAX_REASON_ID: Final = 65_535
MAX_HOLDS: Final = 64
MAX_HOLD_TACS: Final = 100_000
MAX_PLMNS: Final = 1_024
MAX_OVERRIDES: Final = 1_000_000

# Snapshot files
SECTION_ALIGNMENT_BYTES: Final = 64
MAX_SNAPSHOT_HEADER_BYTES: Final = 1 << 20
MAX_SECTIONS: Final = 256
MAX_SECTION_BYTES: Final = 1 << 40
MAX_SECTION_ITEMS: Final = 1 << 32
MAX_TEXT_FIELD_CHARS: Final = 256

# List files
MAX_MANIFEST_BYTES: Final = 4 << 20
MAX_LIST_FILES: Final = 1_000
MAX_LIST_LINE_BYTES: Final = 65_536
MAX_LIST_UNPACKED_BYTES: Final = 1 << 36
MAX_UNPACK_RATIO: Final = 100
UNPACK_RATIO_FLOOR_BYTES: Final = 1 << 24
MAX_ZIP_MEMBERS: Final = 1_000
MAX_LIST_RANGES: Final = 10_000_000
MAX_CONFLICTS_NAMED: Final = 100_000
MAX_LOAD_ENGINE_MEMORY_BYTES: Final = 2 << 30
LOAD_BATCH_ROWS: Final = 1 << 20
MAX_CONFIG_BYTES: Final = 1 << 20

# Doors
MAX_CHECKS_PER_MESSAGE: Final = 8_192
MAX_GRPC_MESSAGE_BYTES: Final = 1 << 20
MAX_GRPC_STREAMS: Final = 1_024
MAX_GRPC_CALLS: Final = 4_096
MAX_ADMIN_CALLS: Final = 64

# N5g-eir door
MAX_N5G_URL_CHARS: Final = 2_048
MAX_N5G_HEADER_BYTES: Final = 16_384
MAX_N5G_ACCEPT_CHARS: Final = 1_024
MAX_PEI_CHARS: Final = 64
MAX_N5G_GATHERED: Final = 1_024
MAX_TOKEN_CHARS: Final = 8_192
MAX_CACHED_TOKENS: Final = 1_024
MAX_TOKEN_KEYS: Final = 64
MAX_TOKEN_KEYS_BYTES: Final = 1 << 20
MAX_NRF_ANSWER_BYTES: Final = 1 << 20
