"""What hosts with NVIDIA's GPUs show: recorded words of the driver and its tool, shortened.

Each is what the fact ``Nvidia`` prints on such a host. Where the words were recorded stands beside
them; what is put around them is the fact's own form.
"""

H100_UUID = "GPU-e284f2f0-b7db-deb5-4d10-143420128721"
A10_UUID = "GPU-f15ae561-21b1-6003-c768-861fc285203b"
A100_UUIDS = (
    "GPU-513536b6-7d19-9063-b049-1e69664bb298",
    "GPU-d8594bd4-0fc3-8595-e355-7c98138f3b95",
    "GPU-5e375e7e-b41f-155b-dcdc-534524c356fc",
)
MIG_UUIDS = (
    "MIG-ce861fb0-a248-58ce-a9a8-f9adbc22a66a",
    "MIG-a45882f0-9215-5733-a0c1-49286ab31cb5",
)

NOTHING = ("status missing",)

# Total memory as `nvidia-smi` tells it: modal-labs/modal-client#2797.
H100 = (
    "card nvidia",
    "kernel 580.65.06",
    "status 0",
    f"csv 0, {H100_UUID}, NVIDIA H100 80GB HBM3, 81559, 580.65.06, 9.0, Disabled",
    f"list GPU 0: NVIDIA H100 80GB HBM3 (UUID: {H100_UUID})",
    "cuda 13.0",
)
TOOLKIT = ("toolkit 1.19.0",)

# NVIDIA/nvidia-container-toolkit#1227: four GPUs of two kinds, driver 570.133.20, CUDA 12.8.
FOUR_GPUS_OLD_DRIVER = (
    *("card nvidia",) * 4,
    "kernel 570.133.20",
    "status 0",
    f"csv 0, {A10_UUID}, NVIDIA A10, 23028, 570.133.20, 8.6, [N/A]",
    "csv 1, GPU-466be1f8-6148-1a27-a450-592604f3df54, NVIDIA A10, 23028, 570.133.20, 8.6, [N/A]",
    "csv 2, GPU-bf507abe-ec25-2053-5435-1c82511a3ae8, Tesla T4, 15360, 570.133.20, 7.5, [N/A]",
    "csv 3, GPU-a1329f2e-1e73-88f2-4d4b-1ce18debbc6d, Tesla T4, 15360, 570.133.20, 7.5, [N/A]",
    "cuda 12.8",
)

# influxdata/telegraf#5812: four A100, of which the first is cut up; here three, and a newer driver.
A100_WITH_MIG = (
    *("card nvidia",) * 3,
    "kernel 580.65.06",
    "status 0",
    f"csv 0, {A100_UUIDS[0]}, NVIDIA A100-SXM4-80GB, 81920, 580.65.06, 8.0, Enabled",
    f"csv 1, {A100_UUIDS[1]}, NVIDIA A100-SXM4-80GB, 81920, 580.65.06, 8.0, Disabled",
    f"csv 2, {A100_UUIDS[2]}, NVIDIA A100-SXM4-80GB, 81920, 580.65.06, 8.0, Disabled",
    f"list GPU 0: NVIDIA A100-SXM4-80GB (UUID: {A100_UUIDS[0]})",
    f"list   MIG 1g.20gb     Device  0: (UUID: {MIG_UUIDS[0]})",
    f"list   MIG 1g.20gb     Device  1: (UUID: {MIG_UUIDS[1]})",
    f"list GPU 1: NVIDIA A100-SXM4-80GB (UUID: {A100_UUIDS[1]})",
    f"list GPU 2: NVIDIA A100-SXM4-80GB (UUID: {A100_UUIDS[2]})",
    "cuda 13.0",
)

# A card that no driver has, and one that the kernel's own has.
BARE_CARD = ("card ", "status missing")
NOUVEAU = ("card nouveau", "status missing")
PASSED_ON = ("card vfio-pci", "card vfio-pci", "status missing")

# intel/llvm#17614.
MISMATCH = (
    "card nvidia",
    "kernel 550.127.08",
    "status 18",
    "csv Failed to initialize NVML: Driver/library version mismatch",
    "csv NVML library version: 550.144",
)

# NVIDIA/nvidia-docker#988.
COULD_NOT_COMMUNICATE = (
    "status 9",
    "csv NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
)

# NVIDIA/open-gpu-kernel-modules#862 and #789.
NO_DEVICES = (
    "card nvidia",
    "kernel 580.65.06",
    "status 6",
    "csv No devices were found",
)

# NVIDIA/open-gpu-kernel-modules#387; the kernel's words: NVIDIA/NVSentinel#155.
FALLEN = (
    "card nvidia",
    "kernel 580.65.06",
    "status 15",
    "csv Unable to determine the device handle for GPU 0000:0B:00.0: Unknown Error",
    "xid NVRM: Xid (PCI:0000:44:00): 79, GPU has fallen off the bus",
)

HUNG = ("card nvidia", "kernel 580.65.06", "status 124")
WITHOUT_TOOL = ("card nvidia", "kernel 580.65.06", "status missing")

# anduril/jetpack-nixos#371 and OE4T/linux-tegra-5.10#17.
JETSON = (
    "jetson NVIDIA Jetson AGX Orin Developer Kit",
    "status 0",
    "csv 0, [N/A], Orin (nvgpu), [N/A], 540.4.0, [N/A], [N/A]",
)

WSL_WITHOUT_DRIVER = ("wsl", "status missing")

# NVIDIA/nvidia-container-toolkit#1967: of a GPU for which CUDA 13 has no code, with a new driver.
MAXWELL = (
    "card nvidia",
    "kernel 580.173.02",
    "status 0",
    f"csv 0, {A10_UUID}, NVIDIA GeForce GTX 970, 4096, 580.173.02, 5.2, [N/A]",
    "cuda 13.0",
)

PROOF = {
    "device": "cuda:0",
    "name": "NVIDIA H100 80GB HBM3",
    "driver": "580.65.06",
    "cuda": "13.0",
    "memory_mib": 81079,
    "compute_capability": "9.0",
    "proof": "ok",
}
LOST = {
    "device": "cuda",
    "proof": "failed",
    "error": "nvml_lost",
    "detail": "NVML: 999, unknown error",
}

# NVIDIA/nvidia-docker#1671.
LOST_INSIDE = "fault Failed to initialize NVML: Unknown Error"
