"""PyTorch's context_parallel and DeepSpeed's DistributedAttention over gloo: run under torchrun, a process for each rank,
with the name of one of them. Rank 0 reads requests and answers; all do what they say.
"""

from __future__ import annotations

import sys
import time

import numpy
import torch
import torch.distributed
import torch.nn.functional as functional

import line_process


def rows_of(directory: str, name: str) -> torch.Tensor:
    """[1, seq, heads, dim]"""
    return torch.from_numpy(numpy.load(f"{directory}/{name}.npy"))


class ContextParallel:
    """The ring of torch.distributed.tensor.experimental.context_parallel, with its sharding, load balance and default way of
    rotating. Its dispatcher knows the operators of GPUs only, so the ring is called with the CPU's flash attention here.
    """

    def __init__(self, asked: dict):
        from torch.distributed.device_mesh import init_device_mesh
        try:
            from torch.distributed.tensor.experimental._context_parallel import _attention as ring
        except ImportError:  # PyTorch up to 2.9
            from torch.distributed.tensor.experimental import _attention as ring
        self._ring = ring
        self._mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
        self._causal = asked["score"] == "causal"
        # Without it context_parallel would balance, and not know that nothing is hidden.
        ring._cp_options.enable_load_balance = self._causal
        names = ["q", "k", "v"] + (["dout"] if asked["work"].endswith("backward") else [])
        parts = [rows_of(asked["inputs"], name).transpose(1, 2).contiguous() for name in names]
        with ring.context_parallel(self._mesh, buffers=parts, buffer_seq_dims=[2] * len(parts)):
            parts = [x.clone() for x in parts]
        self._q, self._k, self._v, *rest = parts
        self._dout = rest[0] if rest else None
        if rest:
            self._out, self._lse = self._forward()

    def _forward(self):
        out, lse, *_ = self._ring._templated_ring_attention(
            self._mesh.get_group(), 2, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
            query=self._q, key=self._k, value=self._v, is_causal=self._causal, dropout_p=0.0)
        return out, lse

    def once(self) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            if self._dout is None:
                return {"out": self._forward()[0]}
            gradients = self._ring._templated_ring_attention_backward(
                self._mesh.get_group(), 2, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default,
                grad_out=self._dout, grad_out_name="grad_out", query=self._q, key=self._k, value=self._v, out=self._out,
                logsumexp=self._lse, is_causal=self._causal, dropout_p=0.0)
            return dict(zip(("dq", "dk", "dv"), gradients))

    def whole(self, x: torch.Tensor) -> torch.Tensor:
        return self._ring.context_parallel_unshard(self._mesh, [x.detach()], [2])[0].transpose(1, 2)

    @staticmethod
    def name() -> str:
        return f"PyTorch {torch.__version__.split('+')[0]} context_parallel"


class DeepSpeed:
    """deepspeed.sequence.layer.DistributedAttention around scaled_dot_product_attention; rows are contiguous."""

    def __init__(self, asked: dict):
        import deepspeed
        from deepspeed.sequence.layer import DistributedAttention

        if not deepspeed.comm.is_initialized():
            deepspeed.init_distributed(dist_backend="gloo", verbose=False)
        causal = asked["score"] == "causal"
        rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        names = ["q", "k", "v"] + (["dout"] if asked["work"].endswith("backward") else [])
        q, k, v, *rest = (rows_of(asked["inputs"], name).chunk(size, dim=1)[rank].contiguous() for name in names)

        def local(q, k, v):  # [1, seq, heads, dim]
            out = functional.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2),
                                                          is_causal=causal)
            return out.transpose(1, 2).contiguous()

        attention = DistributedAttention(local, torch.distributed.group.WORLD, scatter_idx=2, gather_idx=1)
        if not rest:
            def once():
                with torch.no_grad():
                    return {"out": attention(q, k, v, 0)}
        else:
            for x in (q, k, v):
                x.requires_grad_()
            out = attention(q, k, v, 0)

            def once():
                return dict(zip(("dq", "dk", "dv"), torch.autograd.grad(out, (q, k, v), rest[0], retain_graph=True)))
        self.once = once

    @staticmethod
    def whole(x: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(x) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, x.detach().contiguous())
        return torch.cat(parts, dim=1)

    @staticmethod
    def name() -> str:
        import deepspeed

        return f"DeepSpeed {deepspeed.__version__} DistributedAttention"


def main() -> None:
    answers = line_process.own_standard_output()
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    peer = {"context_parallel": ContextParallel, "deepspeed": DeepSpeed}[sys.argv[1]]
    prepared = []
    results: dict[str, torch.Tensor] = {}

    def answer(asked: dict) -> dict:
        if asked["do"] == "describe":
            return {"name": peer.name()}
        if asked["do"] == "prepare":
            prepared.clear()
            prepared.append(peer(asked))
        elif asked["do"] == "run":
            times = asked.get("times", 1)
            torch.distributed.barrier()
            start = time.perf_counter()
            for _ in range(times):
                results.clear()
                results.update(prepared[0].once())
            mine = torch.tensor((time.perf_counter() - start) / times, dtype=torch.float64)
            torch.distributed.all_reduce(mine, torch.distributed.ReduceOp.MAX)
            return {"seconds": mine.item()}
        elif asked["do"] == "write":
            for name, x in results.items():
                whole = prepared[0].whole(x)
                if rank == 0:
                    numpy.save(f"{asked['to']}/{name}.npy", whole.contiguous().numpy())
        return {}

    def read() -> str:
        line = [sys.stdin.readline() if rank == 0 else None]
        torch.distributed.broadcast_object_list(line)
        return line[0]

    line_process.serve(answer, read, answers.write if rank == 0 else lambda line: None)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
