# The target torch_stable is LibTorch's stable ABI as of 2.10. One binary loads under every later release.
execute_process(
  COMMAND
    ${Python_EXECUTABLE} -c
    "import torch, pathlib; print(torch.__version__, pathlib.Path(torch.__file__).parent, sep=';', end='')"
  OUTPUT_VARIABLE torch_found
  ERROR_VARIABLE torch_error
  RESULT_VARIABLE torch_status)
if(NOT torch_status EQUAL 0)
  message(FATAL_ERROR "vtadl-ext is built against PyTorch, which ${Python_EXECUTABLE} cannot import: "
                      "install torch >= 2.10 there first.\n${torch_error}")
endif()
list(GET torch_found 0 VTADL_TORCH_VERSION)
list(GET torch_found 1 torch_folder)
string(REGEX MATCH "^[0-9]+\\.[0-9]+" torch_release "${VTADL_TORCH_VERSION}")
if(torch_release VERSION_LESS 2.10)
  message(FATAL_ERROR "vtadl-ext needs torch >= 2.10 to build, but ${Python_EXECUTABLE} has "
                      "${VTADL_TORCH_VERSION}: upgrade torch.")
endif()

add_library(torch_stable INTERFACE)
target_include_directories(torch_stable SYSTEM INTERFACE ${torch_folder}/include)
target_compile_definitions(torch_stable INTERFACE TORCH_TARGET_VERSION=0x020a000000000000)
target_link_directories(torch_stable INTERFACE ${torch_folder}/lib)
# The linker must name torch's libraries even if no symbol seems to need them, because Python loads them privately.
target_link_options(torch_stable INTERFACE $<$<PLATFORM_ID:Linux>:LINKER:--no-as-needed>)
target_link_libraries(torch_stable INTERFACE torch_cpu torch)
