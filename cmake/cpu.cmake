# vtadl_cpu_kernels(target sources...) compiles CPU kernels once per instruction set; cpu_dispatch.h chooses one.
# vtadl_share_cpu_kernels(target other) links a target with the kernels that were compiled for another one.
set(VTADL_CPU_FLAGS -fopenmp-simd -ffp-contract=fast -fno-math-errno -fno-trapping-math)
set(VTADL_CPU_FLAGS_baseline)
set(VTADL_CPU_FLAGS_avx2 -mavx2 -mfma -mf16c)
set(VTADL_CPU_FLAGS_avx512 ${VTADL_CPU_FLAGS_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl
                           -mprefer-vector-width=512)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(VTADL_CPU_CAPABILITIES baseline avx2 avx512)
else()
  set(VTADL_CPU_CAPABILITIES baseline)
endif()

function(vtadl_cpu_kernels target)
  foreach(capability IN LISTS VTADL_CPU_CAPABILITIES)
    set(kernels ${target}_cpu_${capability})
    add_library(${kernels} OBJECT ${ARGN})
    target_link_libraries(${kernels} PRIVATE vtadl_flags)
    target_include_directories(
      ${kernels} SYSTEM PRIVATE $<TARGET_PROPERTY:torch_stable,INTERFACE_INCLUDE_DIRECTORIES>)
    target_compile_definitions(${kernels} PRIVATE VTADL_CPU_CAPABILITY=${capability})
    target_compile_options(${kernels} PRIVATE ${VTADL_CPU_FLAGS} ${VTADL_CPU_FLAGS_${capability}})
  endforeach()
  vtadl_share_cpu_kernels(${target} ${target})
endfunction()

function(vtadl_share_cpu_kernels target other)
  foreach(capability IN LISTS VTADL_CPU_CAPABILITIES)
    target_link_libraries(${target} PRIVATE ${other}_cpu_${capability})
  endforeach()
  if("avx2" IN_LIST VTADL_CPU_CAPABILITIES)
    target_compile_definitions(${target} PRIVATE VTADL_X86_KERNELS)
  endif()
endfunction()
